"""Conversations in which text of a folder goes on, for a pair that is as unsure as real ones are.

The tasks' answers leave little to chance. How drafting fares where a model weighs many
continuations, as it does at temperature 1, shows on a pair trained on what people wrote.
"""

from pathlib import Path
from random import Random

from localmtp.models.recipe.conversation import Part

HELD_OUT_EVERY = 40
"""One file of so many is kept for prompts."""
HELD_OUT = 16
KIND = "continue"
GIVEN_LINES, SHORTEST = 12, 4000
"""Lines that a question shows; characters of the smallest file that is used."""
ANSWER = 3000
"""Characters of text that goes on: longer than a row of tokens."""


class Continuations:
    """Draws from the files of a folder.

    Args:
        folder: searched for files, folders in it too.
        pattern: of their names.

    Raises:
        ValueError: too few files.
    """

    def __init__(self, folder: Path, pattern: str = "*.py") -> None:
        paths = sorted(path for path in folder.rglob(pattern) if "site-packages" not in path.parts)
        texts = [path.read_text("utf-8", "replace") for path in paths]
        long = [text for text in texts if len(text) >= SHORTEST]
        self._held_out = long[::HELD_OUT_EVERY][:HELD_OUT]
        self._files = [text for text in long if text not in self._held_out]
        self._sizes = [len(text) for text in self._files]
        if len(long) < HELD_OUT_EVERY:
            raise ValueError(f"{folder} has {len(long)} files {pattern} that are long enough")

    def held_out(self) -> dict[str, list[str]]:
        """Prompts from files that are not trained on."""
        rng = Random(0)
        return {KIND: [self._parted(text, rng)[0] for text in self._held_out]}

    def draw(self, rng: Random) -> list[Part]:
        """A conversation whose answer goes on as a file does, and does not end."""
        text = rng.choices(self._files, self._sizes)[0]
        given, rest = self._parted(text, rng)
        opening = f"<bos><|turn>user\n{given}<turn|>\n<|turn>model\n"
        return [Part(opening, learned=False), Part(rest, learned=True)]

    @staticmethod
    def _parted(text: str, rng: Random) -> tuple[str, str]:
        lines = text.splitlines(keepends=True)
        at = rng.randrange(max(1, len(lines) - 4 * GIVEN_LINES))
        rest = "".join(lines[at + GIVEN_LINES :])[:ANSWER]
        return "".join(lines[at : at + GIVEN_LINES]).strip("\n"), rest
