"""Results of a race: clear, unclear, impossible, too short; and races on the screen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localmtp.engine.stats import Stats
from localmtp.session import Choices
from localmtp.tui.app import ChatApp
from localmtp.tui.race import measured_speedup, verdict
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.statistics import PanelData, drafting_section
from localmtp.tui.screens.race import RaceScreen
from localmtp.tui.themes import DARK
from tests.tui.frozen import STATS, FrozenSession
from tests.tui.screen import chat, nano, ready, seen, wait_until


def off(tokens_per_s: float) -> Stats:
    return replace(STATS, decode_tokens_per_s=tokens_per_s, drafted=0, tokens_per_pass=1.0)


def on(tokens_per_s: float) -> Stats:
    return replace(STATS, decode_tokens_per_s=tokens_per_s)


def test_consistent_runs_have_a_speedup() -> None:
    runs = [off(20.0), off(20.2), off(19.9)], [on(40.0), on(40.1), on(40.4)]
    assert measured_speedup(*runs) == pytest.approx(2.0, rel=0.02)
    assert verdict(*runs).startswith("speedup 2.00× (median of 3 runs")


def test_runs_that_vary_have_no_speedup() -> None:
    runs = [off(20.0), off(40.0), off(20.0)], [on(30.0), on(30.0), on(35.0)]
    assert measured_speedup(*runs) is None
    assert verdict(*runs) == "no clear result: between 0.75× and 1.75× in 3 runs"


def test_a_speedup_never_exceeds_the_tokens_per_pass() -> None:
    runs = [off(20.0)] * 3, [replace(on(67.0), tokens_per_pass=1.87)] * 3
    assert measured_speedup(*runs) is None
    assert "no clear result" in verdict(*runs)


def test_short_answers_are_not_compared() -> None:
    runs = [off(20.0)] * 3, [replace(on(40.0), completion_tokens=5)] * 3
    assert measured_speedup(*runs) is None
    assert verdict(*runs).startswith("too short")
    assert verdict([], []).startswith("too short")


def test_a_single_long_pair_is_compared() -> None:
    runs = [replace(off(20.0), decode_s=9.0)], [replace(on(30.0), decode_s=6.0)]
    assert verdict(*runs) == "speedup 1.50× (one run)"
    assert verdict([off(20.0)], [on(30.0)]) == "stopped too early to compare"


def test_answers_without_drafts_are_reported() -> None:
    runs = [off(20.0)] * 3, [off(20.0)] * 3
    assert verdict(*runs).startswith("nothing was drafted")


@pytest.mark.parametrize(
    ("stats", "plain", "shown"),
    [
        (STATS, 24.0, "1.74×"),
        (replace(STATS, tokens_per_pass=1.2), 24.0, ""),
        (replace(STATS, decode_s=0.1), 24.0, ""),
        (STATS, 0.0, ""),
    ],
)
def test_the_panel_shows_possible_speedups_only(stats: Stats, plain: float, shown: str) -> None:
    data = PanelData(stats, "on", plain_tokens_per_s=plain)
    text = drafting_section(Brush(DARK), data, 0.0).plain
    assert shown in text if shown else "speedup" not in text


async def test_a_race_without_a_drafter_is_refused() -> None:
    app = chat(lambda: nano(drafter="none"))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        conversation.prompt.put("/race Count to ten.")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "nothing to compare" in seen(app), "it is refused")
        assert conversation.idle_session


async def test_a_race_can_be_closed_while_it_runs() -> None:
    app = ChatApp("nano", lambda name, report: FrozenSession("word " * 40, holds=True))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        conversation.prompt.put("/race Count to ten.")
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RaceScreen), "the race is open")
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat, "the chat is back")
        assert conversation.idle_session


async def test_a_race_drafts_with_the_length_of_the_settings() -> None:
    app = chat(lambda: nano(Choices(n_draft=2, max_tokens=64)))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        conversation.prompt.put("/race Write a long story about George the hedgehog.")
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RaceScreen), "the race is open")
        race = app.screen
        assert isinstance(race, RaceScreen)
        await wait_until(pilot, lambda: race.is_over, "the race is over")
        without, with_drafts = race.race.pairs()
        assert without and all(stats.drafted == 0 for stats in without)
        assert with_drafts and all(stats.drafted > 0 for stats in with_drafts)
        # The warm-up prefilled the prompt: all others reuse the same part of it.
        reused = {(stats.prompt_tokens, stats.reused_tokens) for stats in (*without, *with_drafts)}
        assert len(reused) == 1
