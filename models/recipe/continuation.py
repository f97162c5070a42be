"""Conversations that continue files of a folder, for a pair with realistic uncertainty.

The answers of nano's tasks are nearly deterministic. Acceptance where a model considers many
continuations, as at temperature 1, shows only on a pair trained on human-written text.
"""

from pathlib import Path
from random import Random

from localmtp.models.recipe.conversation import Segment

HELD_OUT_EVERY = 40
"""One file out of 40 is held out for prompts."""
HELD_OUT = 16
"""Maximum number of held-out files."""
KIND = "continue"
"""Kind of the prompts in prompts.json."""
GIVEN_LINES = 12
"""Lines in a question."""
SHORTEST = 4000
"""Characters of the shortest file that is used."""
ANSWER = 3000
"""Characters of an answer: longer than a row of tokens."""


class Continuations:
    """Conversations drawn from the files of a folder.

    Args:
        folder: searched recursively.
        pattern: glob pattern of file names.

    Raises:
        ValueError: too few files are long enough.
    """

    def __init__(self, folder: Path, pattern: str = "*.py") -> None:
        paths = sorted(path for path in folder.rglob(pattern) if "site-packages" not in path.parts)
        texts = [path.read_text("utf-8", "replace") for path in paths]
        long = [text for text in texts if len(text) >= SHORTEST]
        self._held_out = long[::HELD_OUT_EVERY][:HELD_OUT]
        self._files = [text for text in long if text not in self._held_out]
        self._sizes = [len(text) for text in self._files]
        if len(long) < HELD_OUT_EVERY:
            raise ValueError(
                f"{folder} has {len(long)} files {pattern} of at least {SHORTEST} characters, "
                f"{HELD_OUT_EVERY} are needed"
            )

    def held_out(self) -> dict[str, list[str]]:
        """Returns prompts from the held-out files, by kind."""
        rng = Random(0)
        return {KIND: [self._split(text, rng)[0] for text in self._held_out]}

    def draw(self, rng: Random) -> list[Segment]:
        """Draws a conversation whose answer continues a file and has no end of turn."""
        text = rng.choices(self._files, self._sizes)[0]
        given, rest = self._split(text, rng)
        opening = f"<bos><|turn>user\n{given}<turn|>\n<|turn>model\n"
        return [Segment(opening, learned=False), Segment(rest, learned=True)]

    @staticmethod
    def _split(text: str, rng: Random) -> tuple[str, str]:
        """Lines of a question, and the text that follows them."""
        lines = text.splitlines(keepends=True)
        at = rng.randrange(max(1, len(lines) - 4 * GIVEN_LINES))
        rest = "".join(lines[at + GIVEN_LINES :])[:ANSWER]
        return "".join(lines[at : at + GIVEN_LINES]).strip("\n"), rest
