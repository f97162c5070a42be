"""The embedded pair, loaded once for the tests of a file."""

from collections.abc import Callable, Iterator

import pytest

from localmtp.engine.pair import LoadOptions, Pair
from localmtp.models import resolve
from localmtp.session import Choices, Session
from localmtp.session.local import LocalSession

ONE_THREAD = LoadOptions(threads=1, context=1024)
"""Tests run in parallel processes, whose threads would wait for each other's cores."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    files = resolve("nano")
    with Pair.load(files.target, files.drafter, ONE_THREAD) as loaded:
        yield loaded


@pytest.fixture
def session(pair: Pair) -> Callable[[Choices], Session]:
    """Makes conversations on the one loaded pair."""
    return lambda choices: LocalSession(pair, resolve("nano"), choices)
