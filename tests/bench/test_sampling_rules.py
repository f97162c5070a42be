"""`localmtp.bench.lab.sampling`: acceptance of the rules, and answers compared token by token."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from localmtp.bench.lab.sampling.rules import reached, shared_noise
from localmtp.engine.sampling.distribution import Distribution, ListDistribution
from localmtp.engine.sampling.noise import exponential


def _random(random: np.random.Generator, ids: list[int]) -> ListDistribution:
    probs = np.sort(random.dirichlet(np.full(len(ids), 0.5)))[::-1]
    return ListDistribution(ids, probs.tolist())


def _choice(p: Distribution, key: int) -> int:
    noise = exponential(key, p.ids)
    return p.ids[int(np.argmax(np.array(p.probs) / np.array(noise)))]


@pytest.mark.parametrize("seed", range(4))
def test_shared_noise_agrees_with_draws(seed: int) -> None:
    """The formula is the frequency of equal choices, and so are its parts of single tokens."""
    random = np.random.default_rng(seed)
    p, q = _random(random, [3, 1, 4, 7, 5]), _random(random, [1, 9, 3, 5])
    draws = 4000
    keys = random.integers(1 << 60, size=draws).tolist()
    equal = sum(_choice(p, key) == _choice(q, key) for key in keys) / draws
    assert equal == pytest.approx(shared_noise(p, q), abs=0.03)
    parts = [p.of(token) * reached(token, p, q)[1] for token in p.ids]
    assert sum(parts) == pytest.approx(shared_noise(p, q))


def _table(module: str, *arguments: str) -> list[list[str]]:
    command = [sys.executable, "-m", f"localmtp.bench.lab.sampling.{module}", "nano", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_the_scripts_print_their_tables() -> None:
    """Both scripts run as modules, and their tables have all rules and modes."""
    few = "--prompts", "1", "--max-tokens", "8", "--temperature", "1"
    rules = _table("rules", *few)
    assert [row[1] for row in rules] == ["maximal", "shared noise", "equal"]
    assert all(0 < float(cell) <= 1 for row in rules for cell in row[2:5])
    modes = _table("equal", *few)
    assert len(modes) == 11
    assert all(row[2].endswith(" of 8") for row in modes)
