"""Stop strings: whatever the pieces, the text is cut where the first one begins."""

from hypothesis import given
from hypothesis import strategies as st

from localmtp.serve.generation.stops import StopScanner

LETTERS = st.text("ab", max_size=12)


@given(pieces=st.lists(LETTERS), stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_pieces_are_cut_as_the_whole_is(pieces: list[str], stops: list[str]) -> None:
    scanner = StopScanner(stops)
    shown = "".join(scanner.feed(piece) for piece in pieces) + scanner.rest()
    # The earliest end decides: a later piece cannot take back what was shown.
    whole = "".join(pieces)
    ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
    assert scanner.hit == bool(ends)
    if ends:
        assert whole.startswith(shown)
        assert any(whole[len(shown) :].startswith(stop) for stop in stops)
        assert not any(stop in shown for stop in stops)
    else:
        assert shown == whole


@given(text=LETTERS, stop=st.text("ab", min_size=2, max_size=4))
def test_nothing_is_held_back_longer_than_needed(text: str, stop: str) -> None:
    scanner = StopScanner([stop])
    shown = "".join(scanner.feed(letter) for letter in text)
    if not scanner.hit:
        held = text[len(shown) :]
        assert stop.startswith(held)
        assert held != stop
