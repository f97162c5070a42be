"""Stop strings: the text ends before the first one, however it is split."""

from hypothesis import given
from hypothesis import strategies as st

from localmtp.serve.generation.stop_strings import StopScanner

LETTERS = st.text("ab", max_size=12)


@given(pieces=st.lists(LETTERS), stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_split_text_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    scanner = StopScanner(stops)
    shown = "".join(scanner.feed(piece) for piece in pieces) + scanner.rest()
    # The earliest end counts: released text cannot be taken back.
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
def test_only_a_prefix_of_a_stop_string_is_held_back(text: str, stop: str) -> None:
    scanner = StopScanner([stop])
    shown = "".join(scanner.feed(letter) for letter in text)
    if not scanner.hit:
        held = text[len(shown) :]
        assert stop.startswith(held)
        assert held != stop
