"""Qwen 3.5 and its MTP head beside transformers; `heads_reference.py` wrote the recorded logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localmtp.bench.lab.convert.qwen_checkpoints import write_qwen
from localmtp.convert import Options, convert
from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.prefill import Prefill, Prefiller
from localmtp.engine.llama import Floats
from localmtp.engine.pacing import FixedPolicy, RoundPlan
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.distribution import Proposal
from localmtp.engine.sampling.sampler import Greedy
from tests.engine.heads_reference import EVERY, SHAPES, TOKENS

RECORDED = np.load(Path(__file__).with_name("heads_reference.npz"))

ROUNDING = 0.002
"""Largest difference relative to the largest logit; 0.0008 was seen. The KV cache has 16 bits."""


class _Recorder(Greedy):
    """Keeps the head's logits."""

    logits: Floats

    def propose(self, logits: Floats) -> Proposal:
        self.logits = logits.copy()
        return super().propose(logits)


@pytest.mark.parametrize(
    ("shape", "apart"), [(SHAPES[0], False), (SHAPES[0], True), (SHAPES[1], False)]
)
def test_target_and_head_equal_transformers(tmp_path: Path, shape: str, apart: bool) -> None:
    source = write_qwen(tmp_path / "checkpoint", shape, dtype="F32")
    paths = [
        convert(source, tmp_path / f"{mtp}{no_mtp}", options=options)[0].path
        for mtp, no_mtp in (((False, True), (True, False)) if apart else ((False, False),))
        for options in [Options(["F32"], threads=1, mtp=mtp, no_mtp=no_mtp)]
    ]
    with Pair.load(paths[0], paths[-1], LoadOptions(threads=1, context=256)) as pair:
        for i in range(0, len(TOKENS) - 1, EVERY):
            found, drafted = _after(pair, TOKENS[: i + 1], TOKENS[i + 1])
            _close(found, RECORDED[f"{shape} logits"][i // EVERY])
            if i:
                _close(drafted, RECORDED[f"{shape} head"][i // EVERY])


def _close(found: Floats, expected: Floats) -> None:
    finite = np.isfinite(found)
    difference = np.abs(found[finite] - expected[finite]).max() / np.abs(expected).max()
    assert difference < ROUNDING
    assert int(found.argmax()) == int(np.where(finite, expected, -np.inf).argmax())


def _after(pair: Pair, tokens: list[int], following: int) -> tuple[Floats, Floats]:
    """Returns the target's logits after the tokens, and the head's after the last of them."""
    assert pair.drafter
    sequence = pair.sequences[0]
    sequence.clear()
    *prompt, last = tokens
    if prompt:
        one, prefiller = Prefill(sequence, prompt), Prefiller(pair.target)
        while one.remaining:
            begin = one.done
            prefiller.step([one])
            pair.drafter.prefilled(sequence, begin)
    recorder, policy = _Recorder(), FixedPolicy(1)
    policy.begin_round(1, RoundPlan())
    pair.drafter.propose([DraftSlot(sequence, recorder, policy, last)])
    return sequence.verify(last, [following])[0].copy(), recorder.logits
