"""Round by round: what the drafter proposed, what the target kept."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.reactive import var
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from localmtp.engine.events import Origin
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.drawing.rounds import Round
from localmtp.tui.drawing.text import plural, visible

BEFORE = 400
"""Characters of the answer shown before a round."""


class RoundsScreen(ModalScreen[None]):
    """Steps through an answer with the arrow keys.

    Args:
        rounds: of the answer, in order.
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
    """The round shown."""

    def __init__(self, rounds: list[Round], brush: Brush) -> None:
        super().__init__()
        self._rounds = list(rounds)
        self._brush = brush

    def compose(self) -> ComposeResult:
        """One page of text."""
        with Vertical(id="page"):
            yield Static(id="round")
            yield Footer(show_command_palette=False)

    def action_step(self, by: int) -> None:
        """On or back."""
        self.at = min(len(self._rounds) - 1, max(0, self.at + by))

    def watch_at(self) -> None:
        """Draws the round."""
        if self.is_mounted:
            self.query_one("#round", Static).update(self._drawn())

    def on_mount(self) -> None:
        """Draws the first round."""
        self.watch_at()

    def _drawn(self) -> Text:
        brush, played = self._brush, self._rounds[self.at]
        before = "".join(p.text for r in self._rounds[: self.at] for p in r.pieces)
        text = Text(overflow="fold")
        text.append(f"round {self.at + 1} of {len(self._rounds)}", brush.strong)
        text.append(f"   {self._verdict(played)}\n\n", brush.muted)
        text.append(("…" if len(before) > BEFORE else "") + visible(before[-BEFORE:]), brush.muted)
        for piece in played.pieces:
            corrects = played.rejected and piece.origin is Origin.TARGET
            style = brush.corrected if corrects else brush.origins[piece.origin]
            text.append(visible(piece.text), style)
        text.append("\n\n")
        for number, token_id in enumerate(played.drafted):
            kept = number < played.accepted
            mark = "✓" if kept else "✕" if number == played.accepted else "·"
            token = f"token {token_id}" if token_id >= 0 else "not told"  # by another server
            word = repr(visible(played.pieces[number].text)) if kept else token
            style = brush.draft if kept else brush.muted
            text.append(f"{mark} ", style).append(f"{word}\n", style)
        if played.pieces and played.pieces[-1].origin is not Origin.DRAFT:
            text.append("→ ", brush.plain)
            text.append(f"{visible(played.pieces[-1].text)!r} ", brush.plain)
            text.append(self._reason(played), brush.muted)
        return text

    def _verdict(self, played: Round) -> str:
        if not played.drafted:
            return "nothing was proposed"
        return f"{plural(len(played.drafted), 'token')} proposed, {played.accepted} kept"

    def _reason(self, played: Round) -> str:
        if played.pieces[-1].origin is Origin.PREFILL:
            return "from the prompt alone"
        if played.rejected:
            return "the target's own, in place of what it rejected"
        return "the target's own, for free" if played.drafted else "the target's own"
