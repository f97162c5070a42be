"""Steps through the rounds of an answer: drafted, accepted and rejected tokens."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.reactive import var
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from localmtp.engine.events import Origin
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.formatting import show_controls
from localmtp.tui.rendering.rounds import AnswerRound

CONTEXT_CHARS = 400
"""Characters of the answer shown before a round."""


class RoundsScreen(ModalScreen[None]):
    """Shows one round at a time.

    Args:
        rounds: of the answer, in order; at least one.
        brush: for the colours.
    """

    BINDINGS = [  # noqa: RUF012 - Textual's own type
        Binding("right,down,space", "step(1)", "Next"),
        Binding("left,up", "step(-1)", "Previous"),
        Binding("end", "step(1000000)", "Last"),
        Binding("home", "step(-1000000)", "First"),
        Binding("escape,f4,q", "dismiss", "Close"),
    ]

    at: var[int] = var(0)
    """Index of the round shown."""

    def __init__(self, rounds: list[AnswerRound], brush: Brush) -> None:
        super().__init__()
        self._rounds = list(rounds)
        self._brush = brush

    def compose(self) -> ComposeResult:
        """Yields the page."""
        with Vertical(id="page"):
            yield Static(self._page(), id="round")
            yield Footer(show_command_palette=False)

    def action_step(self, by: int) -> None:
        """Moves by a number of rounds."""
        self.at = min(len(self._rounds) - 1, max(0, self.at + by))

    def watch_at(self) -> None:
        """Shows the round."""
        for page in self.query("#round").results(Static):
            page.update(self._page())

    def _page(self) -> Text:
        brush, shown = self._brush, self._rounds[self.at]
        before = "".join(p.text for r in self._rounds[: self.at] for p in r.pieces)
        text = Text(overflow="fold")
        text.append(f"round {self.at + 1} of {len(self._rounds)}", brush.strong)
        text.append(f"   {self._outcome(shown)}\n\n", brush.muted)
        text.append(
            ("…" if len(before) > CONTEXT_CHARS else "") + show_controls(before[-CONTEXT_CHARS:]),
            brush.muted,
        )
        for piece in shown.pieces:
            corrects = shown.rejected and piece.origin is Origin.TARGET
            style = brush.corrected if corrects else brush.origins[piece.origin]
            text.append(show_controls(piece.text), style)
        text.append("\n\n")
        for number, token_id in enumerate(shown.drafted):
            accepted = number < shown.accepted
            mark = "✓" if accepted else "✕" if number == shown.accepted else "·"
            token = (
                f"token {token_id}" if token_id >= 0 else "token not reported"
            )  # by another server
            word = repr(show_controls(shown.pieces[number].text)) if accepted else token
            style = brush.draft if accepted else brush.muted
            text.append(f"{mark} ", style).append(f"{word}\n", style)
        if shown.pieces and shown.pieces[-1].origin is not Origin.DRAFT:
            text.append("→ ", brush.plain)
            text.append(f"{show_controls(shown.pieces[-1].text)!r} ", brush.plain)
            text.append(self._origin(shown), brush.muted)
        return text

    def _outcome(self, shown: AnswerRound) -> str:
        if not shown.drafted:
            return "no draft"
        return f"{len(shown.drafted)} drafted, {shown.accepted} accepted"

    def _origin(self, shown: AnswerRound) -> str:
        if shown.pieces[-1].origin is Origin.PREFILL:
            return "from prefill"
        if shown.rejected:
            return "by the target, replaces the rejected token"
        return "by the target, after the accepted draft" if shown.drafted else "by the target"
