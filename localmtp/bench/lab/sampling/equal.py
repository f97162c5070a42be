"""Counts answers that are equal, token for token, in every way of drafting and batching.

    python -m localmtp.bench.lab.sampling.equal MODEL [--temperature 0 1] [--n-draft 1 3 8]
        [--batch 4] [--threads 1] [--kv-type q8_0]

Every prompt is answered without drafting, and again in each mode: with drafts of fixed length,
automatic pacing, drafts copied from the context, in a batch, after loading again, and in another
process. Sampled answers have a seed. For answers that differ, the margin of the first difference is
printed: the change of logits that turns one choice into the other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from localmtp.bench.lab.sampling.opened import Opened, add_options, opened
from localmtp.bench.lab.sampling.rules import generate
from localmtp.engine.decoding.generation import Generation, GenerationRequest
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.events import Generated
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.gumbel import GumbelSampler
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams

Answers = list[list[int]]
"""Token ids, by prompt."""


def alone(of: Opened, sampling: SamplingParams, n_draft: int | None, max_tokens: int) -> Answers:
    """Answers every prompt by itself."""
    loop = of.pair.decode_loop()
    return [
        generate(loop, GenerationRequest(prompt, sampling, n_draft, max_tokens))
        for prompt in of.prompts
    ]


def together(of: Opened, sampling: SamplingParams, n_draft: int | None, max_tokens: int) -> Answers:
    """Answers the prompts in a batch: the next one starts when a sequence becomes free."""
    loop = of.pair.decode_loop()
    waiting = [GenerationRequest(prompt, sampling, n_draft, max_tokens) for prompt in of.prompts]
    tokens: dict[Generation, list[int]] = {}
    while loop.active or waiting:
        while loop.free and waiting:
            tokens[loop.start(waiting.pop(0))] = []
        for generation, event in loop.step():
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Generated):
                tokens[generation] += [p.token_id for p in event.pieces if p.token_id >= 0]
    return list(tokens.values())


def elsewhere(arguments: Sequence[str], temperature: float) -> Answers:
    """Answers the prompts in another process, with automatic pacing."""
    command = [sys.executable, "-m", "localmtp.bench.lab.sampling.equal", *arguments]
    command += ["--temperature", str(temperature), "--tokens-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers: Answers = json.loads(done.stdout)
    return answers


def margin(
    pair: Pair, prompt: Sequence[int], sampling: SamplingParams, one: list[int], other: list[int]
) -> tuple[int, float]:
    """Returns the number of equal tokens, and the margin of the choice after them.

    Where one answer has ended, its choice is the most probable token that ends the turn.
    """
    pairs = enumerate(zip(one, other, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
    before = [*prompt, *one[:at]]
    logits = prefill(pair.sequences[0], before)[0]
    vocab = pair.target.vocab
    ends = max(filter(vocab.ends_generation, range(vocab.size)), key=lambda token: logits[token])
    left, right = (answer[at] if at < len(answer) else ends for answer in (one, other))
    if sampling.greedy:
        return at, abs(float(logits[left] - logits[right]))
    return at, GumbelSampler(sampling, len(before)).margin(logits, left, right)


def report(
    of: Opened, sampling: SamplingParams, plain: Answers, modes: Mapping[str, Answers]
) -> None:
    """Prints a row for every mode."""
    for name, answers in modes.items():
        differ = [
            margin(of.pair, prompt, sampling, one, other)
            for prompt, one, other in zip(of.prompts, plain, answers, strict=True)
            if one != other
        ]
        equal = len(plain) - len(differ)
        margins = ", ".join(f"{gap:.3g} (token {at + 1})" for at, gap in differ)
        cells = f"{sampling.temperature:g}", name, f"{equal} of {len(plain)}", margins
        print("|", " | ".join(cells), "|", flush=True)
    tokens = sum(map(len, plain))
    print(f"{tokens} tokens in {len(plain)} answers", flush=True)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser, prompts=4, max_tokens=120)
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--n-draft", type=int, nargs="+", default=[1, 3, 8])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="compute threads [%(default)s]")
    parser.add_argument("--batch", type=int, default=4, help="answers at once [%(default)s]")
    parser.add_argument("--tokens-only", action="store_true", help=argparse.SUPPRESS)
    given, arguments = parser.parse_args(), sys.argv[1:]
    if given.tokens_only:
        with opened(given, threads=given.threads) as of:
            found = alone(of, _sampling(given, given.temperature[0]), None, given.max_tokens)
            print(json.dumps(found))
        return
    print("| temperature | mode | equal | margins of the others |\n|---|---|---|---|", flush=True)
    for temperature in given.temperature:
        _compare(given, arguments, temperature)


def _sampling(given: argparse.Namespace, temperature: float) -> SamplingParams:
    return SamplingParams(temperature, seed=given.seed, acceptance=AcceptanceRule.GUMBEL)


def _compare(given: argparse.Namespace, arguments: Sequence[str], temperature: float) -> None:
    sampling, most = _sampling(given, temperature), given.max_tokens
    threads, batch = given.threads, given.batch
    modes: dict[str, Answers] = {}
    lookup = argparse.Namespace(**{**vars(given), "drafter": "lookup"})
    with opened(lookup, threads=threads) as of:
        modes["copies, 8"] = alone(of, sampling, 8, most)
        modes["copies, auto"] = alone(of, sampling, None, most)
    with opened(given, threads=threads, parallel=batch) as of:
        modes[f"batch of {batch}, none"] = together(of, sampling, 0, most)
        modes[f"batch of {batch}, 3"] = together(of, sampling, 3, most)
        modes[f"batch of {batch}, auto"] = together(of, sampling, None, most)
    modes["another process, auto"] = elsewhere(arguments, temperature)
    with opened(given, threads=threads) as of:
        plain = alone(of, sampling, 0, most)
        ways = {"none again": 0, **{str(n): n for n in given.n_draft}, "auto": None}
        same = {name: alone(of, sampling, n, most) for name, n in ways.items()}
        report(of, sampling, plain, {**same, **modes})


if __name__ == "__main__":
    main()
