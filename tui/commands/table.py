"""The slash commands: one table for running, completing and explaining them."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from localmtp.limits import MAX_DRAFT


@dataclass(frozen=True, slots=True)
class Command:
    """What `/NAME ARGUMENT` does."""

    name: str
    """Its method on `Interpreter` is called the same, with `_` for `-`."""
    argument: str
    """As shown to people; empty when there is none, in brackets when it may be left out."""
    help: str
    aliases: tuple[str, ...] = ()


COMMANDS = (
    Command("help", "", "Keys and commands"),
    Command("new", "", "Begin a new conversation", ("clear",)),
    Command("model", "[NAME]", "Choose the model that answers", ("load",)),
    Command("sessions", "[WORDS]", "Saved conversations"),
    Command("regen", "", "Answer the last question once more"),
    Command("continue", "", "Go on with an answer that was cut"),
    Command("edit", "", "Change the last question and branch off there"),
    Command("undo", "", "Delete the last question and its answer"),
    Command("copy", "[N|all]", "Copy the last answer, its code block N, or everything"),
    Command("colours", "", "Colour tokens by how they came", ("colors",)),
    Command("rounds", "", "Step through what was proposed and what was kept"),
    Command("race", "PROMPT", "Answer twice, without and with drafting"),
    Command("draft", f"auto|0..{MAX_DRAFT}", "Draft length; 0 turns drafting off"),
    Command("set", "KEY VALUE", "temp, top-k, top-p, min-p, seed, max-tokens, on-full"),
    Command("system", "[TEXT]", "The system prompt; without TEXT none"),
    Command("think", "on|off", "Whether the model thinks before it answers"),
    Command("prompt", "", "The conversation as the model is given it"),
    Command("read", "FILE", "Put a text file into the prompt"),
    Command("export", "[FILE]", "Write the conversation as Markdown, or JSON by FILE's ending"),
    Command("save-stats", "[FILE]", "Write the statistics as JSON, and a picture beside it"),
    Command("stats", "", "Show or hide the statistics"),
    Command("theme", "", "Dark or light"),
    Command("quit", "", "Leave the chat", ("bye", "exit")),
)


def parse(text: str) -> tuple[str, str] | None:
    """Name and argument of a command; None for a message. `//` begins a message with a slash."""
    if not text.startswith("/") or text.startswith("//"):
        return None
    name, _, argument = text[1:].partition(" ")
    return name, argument.strip()


def find(name: str) -> Command | None:
    """The command of that name or alias."""
    return next((c for c in COMMANDS if name == c.name or name in c.aliases), None)


def matching(text: str) -> list[Command]:
    """What a half-written command may become; nothing once its name is complete."""
    parsed = parse(text)
    if parsed is None or " " in text or "\n" in text:
        return []
    return [c for c in COMMANDS if any(n.startswith(parsed[0]) for n in (c.name, *c.aliases))]


def nearest(name: str) -> str:
    """The command that was probably meant."""
    return next(iter(get_close_matches(name, [c.name for c in COMMANDS], n=1, cutoff=0)), "help")
