"""The summary of a comparison with another server."""

import pytest

from localmtp.bench.lab.servers.against_server import TimedAnswer, markdown, summary


def answers(way: str, rates: list[float], drafted: int = 0, accepted: int = 0) -> list[TimedAnswer]:
    return [TimedAnswer(way, 1.0, "p", 100, 100 / rate, drafted, accepted) for rate in rates]


def test_speeds_are_sums_and_auto_is_compared_with_the_others() -> None:
    made = [
        *answers("localmtp 0", [10, 30]),
        *answers("localmtp 3", [20, 20], 40, 30),
        *answers("localmtp auto", [25, 25], 20, 18),
        *answers("server 0", [10, 10]),
        *answers("server 3", [20, 20], 40, 20),
    ]
    rows = {row.name: row for row in summary(made)}
    assert rows["localmtp 0"].tokens_per_s == pytest.approx(15.0)
    assert rows["localmtp 0"].acceptance is None
    assert rows["localmtp 3"].acceptance == pytest.approx(0.75)
    assert "auto is 1.25 of the best fixed length, 1.67 of none, 1.25 of the server's drafting" in (
        markdown(summary(made))
    )
