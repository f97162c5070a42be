"""The dark and the light theme."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from textual.theme import Theme


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by role; every text colour has a contrast of at least 4.5 to the background."""

    dark: bool
    background: str
    surface: str
    """Background of panel, prompt and code."""
    raised: str
    """Background of selected items and inline code."""
    rule: str
    """Lines, and the empty parts of bars."""
    foreground: str
    muted: str
    accent: str
    """Prompt, cursor and keys."""
    draft: str
    """Accepted draft tokens, and statistics about them."""
    correction: str
    """Target tokens that replace a rejected draft token; also warnings."""
    prefill: str
    """The token chosen after prefill; also prefill progress."""
    error: str


DARK = Palette(
    dark=True,
    background="#13151a",
    surface="#1a1d24",
    raised="#222630",
    rule="#343a46",
    foreground="#d9dce3",
    muted="#8b93a3",
    accent="#82b1ff",
    draft="#62d6a4",
    correction="#f0b46a",
    prefill="#b7a0f7",
    error="#ff7d87",
)
LIGHT = Palette(
    dark=False,
    background="#fcfbf8",
    surface="#f3f1ec",
    raised="#e9e6df",
    rule="#cfcbc1",
    foreground="#262932",
    muted="#636976",
    accent="#1b5ec2",
    draft="#0a7650",
    correction="#955100",
    prefill="#6a42c4",
    error="#bf2a3a",
)
PALETTES = {"localmtp-dark": DARK, "localmtp-light": LIGHT}


def theme(name: str) -> Theme:
    """Makes the Textual theme of a palette; each colour is a `$name` in the style sheet."""
    palette = PALETTES[name]
    colours = {key: value for key, value in asdict(palette).items() if key != "dark"}
    return Theme(
        name=name,
        dark=palette.dark,
        primary=palette.accent,
        secondary=palette.prefill,
        accent=palette.accent,
        success=palette.draft,
        warning=palette.correction,
        error=palette.error,
        foreground=palette.foreground,
        background=palette.background,
        surface=palette.surface,
        panel=palette.raised,
        variables={
            **{key: colours[key] for key in ("muted", "rule", "raised", "draft", "prefill")},
            "border": palette.accent,
            "border-blurred": palette.rule,
            "footer-background": palette.background,
            "footer-foreground": palette.muted,
            "footer-description-foreground": palette.muted,
            "footer-key-foreground": palette.foreground,
            "footer-item-background": palette.background,
            "input-cursor-background": palette.foreground,
            "input-cursor-foreground": palette.background,
            "scrollbar": palette.rule,
            "scrollbar-hover": palette.muted,
            "scrollbar-active": palette.muted,
            "scrollbar-background": palette.background,
            "scrollbar-background-hover": palette.background,
            "scrollbar-background-active": palette.background,
            "scrollbar-corner-color": palette.background,
        },
    )
