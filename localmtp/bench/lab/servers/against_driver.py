"""Compares how often an MTP head is right here and in llama.cpp's own driver, on the same files.

    python -m localmtp.bench.lab.servers.against_driver MODEL.gguf …

Runs llama.cpp's `llama-speculative-simple` of the directory LOCALMTP_LLAMA_CPP_BIN, greedy, on one
thread. Counts differ by the last round, which only localmtp ends at the requested length, and where
a near-tie takes another turn.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from pathlib import Path

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.events import Finished
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats

_TEXT = " hello in there, and again in there" * 4
_TOKENS, _CONTEXT, _BATCH = 200, 512, 128
_PROGRAM = "llama-speculative-simple"


def theirs(model: Path, n_draft: int) -> tuple[int, int, int]:
    """Runs llama.cpp's driver; returns tokens generated, drafted and accepted."""
    folder = Path(os.environ["LOCALMTP_LLAMA_CPP_BIN"])
    command = [str(folder / _PROGRAM), "-m", str(model), "-p", _TEXT, "-n", str(_TOKENS)]
    command += ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(n_draft), "--temp", "0"]
    command += ["-c", str(_CONTEXT), "-b", str(_BATCH), "-ub", str(_BATCH), "-t", "1"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
    counts = dict(re.findall(r"(n_predict|n_drafted|n_accept)\s*=\s*(\d+)", done.stderr))
    return tuple(int(counts[name]) for name in ("n_predict", "n_drafted", "n_accept"))  # type: ignore[return-value]


def ours(pair: Pair, n_draft: int, tokens: int) -> Stats:
    """Decodes the same prompt; returns the statistics."""
    vocab = pair.target.vocab
    prompt = [*vocab.opening, *vocab.tokenize(_TEXT, special=True)]
    pair.sequences[0].clear()
    request = GenerationRequest(
        prompt, SamplingParams(temperature=0), n_draft=n_draft, max_tokens=tokens
    )
    *_, last = pair.decode_loop().run(request)
    assert isinstance(last, Finished)
    return last.stats


def main() -> None:
    """Prints one row for every file and draft length."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, nargs="+")
    parser.add_argument("--n-draft", type=int, nargs="+", default=[2, 3, 4])
    given = parser.parse_args()
    print("| file | drafts | llama.cpp: accepted of drafted | localmtp | tokens/pass |")
    print("| --- | --- | --- | --- | --- |")
    for model in given.model:
        with Pair.load(model, model, LoadOptions(threads=1, context=_CONTEXT)) as pair:
            for n_draft in given.n_draft:
                tokens, drafted, accepted = theirs(model, n_draft)
                stats = ours(pair, n_draft, tokens)
                print(
                    f"| {model.name} | {n_draft} | {accepted} of {drafted} | "
                    f"{stats.accepted} of {stats.drafted} | {stats.tokens_per_pass:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
