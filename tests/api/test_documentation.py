"""Every example of docs/python.md runs, as a program of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "python.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.M | re.S)

EXPECTED = (
    r"1, 2, 3, 4, 5\n[\d.]+ tokens per pass\n",
    r"0 of \d+ prompt tokens .*\n[1-9]\d* of \d+ prompt tokens .*\n",
    r"prompt: \d+ of \d+ tokens\n(.*\n)*.*from accepted drafts\nstop, \d+ tok/s\n",
    r".+\n",
    r"1, 2, 3, 4, 5\n3, 4, 5, 6, 7, 8, 9\n",
    r".*\n(cancelled|stop)\n",
    r".*missing\.gguf.*\n.*\n",
)


@pytest.mark.parametrize("number", range(len(EXPECTED)))
def test_an_example_runs(number: int, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(EXPECTED[number], ran.stdout), ran.stdout
    assert ran.stderr == ""


def test_every_example_is_run() -> None:
    assert len(EXAMPLES) == len(EXPECTED)
