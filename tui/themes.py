"""Two themes, and the few colours that mean something in both."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from textual.theme import Theme


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by what they stand for; every text colour has a contrast of 4.5 or more."""

    dark: bool
    background: str
    surface: str
    """The panel, the prompt, code."""
    raised: str
    """What the user wrote, and what is under the cursor."""
    rule: str
    """Lines and empty parts of bars."""
    foreground: str
    muted: str
    accent: str
    """The user: the prompt, the cursor, keys."""
    draft: str
    """An accepted draft token, and everything counted from them."""
    correction: str
    """A target token in place of a rejected draft; also warnings."""
    prefill: str
    """The token that the prompt alone decided; also prompt processing."""
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
    """The Textual theme of a palette; each colour is also a `$name` in the style sheet."""
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
