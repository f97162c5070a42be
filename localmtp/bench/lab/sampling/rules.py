"""Expected and measured acceptance of three rules of sampling, by draft position.

    python -m localmtp.bench.lab.sampling.rules MODEL [--temperature 1] [--top-k 64] [--top-p 0.95]

Answers are sampled without drafting. Then they are read again, and at every position the drafter
drafts the tokens that the answer has, so that the distributions p of the target and q of the
drafter are known for every draft position. From them follows the probability that each rule accepts
the next draft token, given that it accepted those before:

- maximal: a token drawn from q is accepted with probability min(1, p/q), in all sum(min(p, q)).
- shared noise: argmax(log p + g) equals argmax(log q + g). With the ratios max(p_j/p_i, q_j/q_i)
  summed over j, token i is the choice of both with probability 1 / sum.
- equal: the drafter's most probable token equals a token drawn from p, as in llama.cpp: p of it.

A position counts with the probability that the rule accepts the tokens before it, relative to the
probability of the text. Measured are answers of the decode loop with drafts of fixed length; its
rule `maximal` drafts the most probable token where that was recently accepted more often.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from localmtp.bench.lab.sampling.opened import Opened, add_options, opened
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.trace import Round, Trace
from localmtp.engine.events import Generated
from localmtp.engine.llama import Floats
from localmtp.engine.pacing import FixedPolicy
from localmtp.engine.sampling.distribution import Distribution, Draft, Proposal
from localmtp.engine.sampling.params import AcceptanceRule, OnRepeat, SamplingParams
from localmtp.engine.sampling.truncation import Truncation

EXPECTED = ("maximal", "shared noise", "equal")
"""Names of the rules."""

Probs = NDArray[np.float64]


def overlaps(p: Distribution, q: Distribution) -> tuple[float, float, float]:
    """Returns the probability that each rule accepts a draft token, in the order of `EXPECTED`."""
    return p.overlap(q), shared_noise(p, q), p.of(q.first)


def shared_noise(p: Distribution, q: Distribution) -> float:
    """Returns the probability that two choices under the same Gumbel noise are equal."""
    ids = list(dict.fromkeys((*p.ids, *q.ids)))
    of_p, of_q = _at(p, ids), _at(q, ids)
    both = (of_p > 0) & (of_q > 0)
    ratios = np.maximum(of_p / of_p[both, None], of_q / of_q[both, None])
    return float((1.0 / ratios.sum(axis=1)).sum())


def reached(token: int, p: Distribution, q: Distribution) -> tuple[float, float, float]:
    """Returns the probability that each rule accepts this token, relative to that of the text."""
    likely, drafted = p.of(token), q.of(token)
    if not likely:
        return 0.0, 0.0, 0.0
    both = 0.0
    if drafted:
        ids = list(dict.fromkeys((*p.ids, *q.ids)))
        both = 1.0 / float(np.maximum(_at(p, ids) / likely, _at(q, ids) / drafted).sum())
    return min(1.0, drafted / likely), both / likely, float(token == q.first)


def _at(distribution: Distribution, ids: Sequence[int]) -> Probs:
    return np.array(distribution.of_all(ids))


@dataclass(slots=True)
class Expected:
    """Sums over the positions of all answers."""

    drafts: int
    """Draft positions."""
    weights: Probs = field(init=False)
    """[drafts, rules]: weight of the positions that a rule reaches."""
    accepted: Probs = field(init=False)
    """[drafts, rules]: weighted probability of acceptance."""

    def __post_init__(self) -> None:
        """Starts from nothing."""
        self.weights = np.zeros((self.drafts, len(EXPECTED)))
        self.accepted = np.zeros((self.drafts, len(EXPECTED)))

    def add(
        self, tokens: Sequence[int], ps: Sequence[Distribution], qs: Sequence[Distribution]
    ) -> None:
        """Counts one draft: its tokens, which are those of the text, and their distributions."""
        weight = np.ones(len(EXPECTED))
        for at, (token, p, q) in enumerate(zip(tokens, ps, qs, strict=True)):
            self.weights[at] += weight
            self.accepted[at] += weight * overlaps(p, q)
            weight = weight * reached(token, p, q)

    def rates(self) -> Probs:
        """Acceptance rates, [drafts, rules]."""
        rates: Probs = self.accepted / np.maximum(self.weights, 1e-12)
        return rates


class AnswerReader:
    """Reads a known answer one token at a time, with drafts that continue it.

    Args:
        text: token ids of the answer.
        sampling: of both distributions.
        found: receives every draft.
    """

    def __init__(self, text: Sequence[int], sampling: SamplingParams, found: Expected) -> None:
        self._text = text
        self._at = 0
        self._truncated = Truncation(sampling).of
        self._found = found

    def propose(self, logits: Floats) -> Proposal:
        """See `Sampler.propose`."""
        q = self._truncated(logits)
        return Proposal(q.confidence, distribution=q)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Takes the answer's token."""
        assert proposal.distribution is not None
        token = self._text[self._at + len(draft.tokens)]
        draft.tokens.append(token)
        draft.offered.append(proposal.distribution)
        return token

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Compares the distributions; accepts nothing."""
        if draft.tokens:
            ps = [self._truncated(logits[row]) for row in range(len(draft.tokens))]
            self._found.add(draft.tokens, ps, draft.offered)
        self._at += 1
        return 0, self._text[self._at - 1]


def expected(of: Opened, sampling: SamplingParams, drafts: int, max_tokens: int) -> Expected:
    """Reads the answers to all prompts."""
    found = Expected(drafts)
    loop = of.pair.decode_loop()
    for seed, prompt in enumerate(of.prompts):
        once = replace(sampling, seed=seed)
        text = generate(loop, GenerationRequest(prompt, once, 0, max_tokens))
        if len(text) < 2:
            continue
        reader = AnswerReader(text, sampling, found)
        request = GenerationRequest(
            prompt, once, max_tokens=len(text), sampler=reader, policy=FixedPolicy(drafts)
        )
        generate(loop, request)
    return found


def measured(of: Opened, sampling: SamplingParams, drafts: int, max_tokens: int) -> Probs:
    """Returns the decode loop's acceptance rate at each position, of drafts that reach it.

    The last round of an answer does not count: its draft may reach beyond the end.
    """
    loop = of.pair.decode_loop()
    drafted, accepted = np.zeros(drafts), np.zeros(drafts)
    rounds: list[Round] = []
    for seed, prompt in enumerate(of.prompts):
        rounds.clear()
        once = replace(sampling, seed=seed)
        trace = Trace(rounds.append)
        generate(loop, GenerationRequest(prompt, once, drafts, max_tokens, trace=trace))
        for one in rounds[:-1]:
            drafted[: min(one.accepted + 1, one.drafted)] += 1
            accepted[: one.accepted] += 1
    rates: Probs = accepted / np.maximum(drafted, 1)
    return rates


def generate(loop: DecodeLoop, request: GenerationRequest) -> list[int]:
    """Returns the token ids of an answer."""
    return [
        piece.token_id
        for event in loop.run(request)
        if isinstance(event, Generated)
        for piece in event.pieces
        if piece.token_id >= 0
    ]


def main() -> None:
    """Prints one table row for every temperature and rule."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser, prompts=16, max_tokens=160)
    parser.add_argument("--temperature", type=float, nargs="+", default=[1.0, 0.7])
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--drafts", type=int, default=3)
    given = parser.parse_args()
    positions = range(1, given.drafts + 1)
    print("| temperature | rule |", *(f"expected {n} |" for n in positions), end=" ")
    print(*(f"measured {n} |" for n in positions))
    print("|---" * (2 + 2 * given.drafts) + "|")
    with opened(given) as of:
        for temperature in given.temperature:
            sampling = SamplingParams(temperature, given.top_k, given.top_p, on_repeat=OnRepeat.OFF)
            _print(of, sampling, given.drafts, given.max_tokens)


def _print(of: Opened, sampling: SamplingParams, drafts: int, max_tokens: int) -> None:
    found = expected(of, sampling, drafts, max_tokens)
    rates = found.rates()
    for rule, name in enumerate(EXPECTED):
        seen: Probs | None = None
        if name != "equal":
            kind = AcceptanceRule.MAXIMAL if name == "maximal" else AcceptanceRule.GUMBEL
            seen = measured(of, replace(sampling, acceptance=kind), drafts, max_tokens)
        cells = [f"{rate:.3f}" for rate in rates[:, rule]]
        cells += [""] * drafts if seen is None else [f"{rate:.3f}" for rate in seen]
        print(f"| {sampling.temperature:g} | {name} |", " | ".join(cells), "|", flush=True)
    print(f"{found.weights[0, 0]:.0f} positions of {len(of.prompts)} answers", flush=True)


if __name__ == "__main__":
    main()
