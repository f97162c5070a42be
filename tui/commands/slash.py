"""The table of slash commands: parsing, completion, help and dispatch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from localmtp.errors import LocalmtpError
from localmtp.limits import MAX_DRAFT
from localmtp.tui.commands import handlers
from localmtp.tui.commands.controls import ChatControls
from localmtp.tui.commands.settings import KEYS

Handler = Callable[[ChatControls, str], str | None]
"""Takes the chat and the argument; returns a notice, if any."""


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command `/NAME ARGUMENT`."""

    name: str
    argument: str
    """Placeholder of the argument; empty for none, in brackets when optional."""
    help: str
    run: Handler
    """Raises `LocalmtpError` if the command fails."""
    aliases: tuple[str, ...] = ()

    @property
    def needs_argument(self) -> bool:
        """Whether the argument is required."""
        return bool(self.argument) and not self.argument.startswith("[")


COMMANDS = (
    Command("help", "", "Keys and commands", lambda chat, _: chat.action_help()),
    Command("new", "", "Start a new conversation", lambda chat, _: chat.action_new(), ("clear",)),
    Command("model", "[NAME]", "Choose the model that answers", handlers.model, ("load",)),
    Command(
        "history",
        "[WORDS]",
        "Saved conversations",
        lambda chat, words: _no_notice(chat.action_history(words)),
        ("sessions",),
    ),
    Command(
        "regen",
        "",
        "Answer the last question again",
        lambda chat, _: chat.action_regenerate(),
        ("retry",),
    ),
    Command("continue", "", "Resume an answer that was cut", handlers.resume),
    Command("edit", "", "Edit the last question and branch off there", handlers.edit),
    Command("undo", "", "Delete the last question and its answer", handlers.undo),
    Command("restore", "", "Restore what was deleted last", handlers.restore),
    Command(
        "copy", "[N|all]", "Copy the last answer, its code block N, or everything", handlers.copy
    ),
    Command(
        "colours",
        "",
        "Colour tokens by their origin",
        lambda chat, _: chat.action_colours(),
        ("colors",),
    ),
    Command(
        "rounds",
        "",
        "Step through drafted and accepted tokens",
        lambda chat, _: chat.action_rounds(),
    ),
    Command(
        "race",
        "PROMPT",
        "Answer with drafting off and on, and compare",
        lambda chat, prompt: chat.race(prompt),
    ),
    Command("draft", f"auto|0..{MAX_DRAFT}", "Draft length; 0 turns drafting off", handlers.draft),
    Command(
        "set",
        "KEY VALUE",
        ", ".join(KEYS),
        handlers.set_value,
    ),
    Command("system", "[TEXT]", "Set the system prompt; without TEXT remove it", handlers.system),
    Command("think", "on|off", "Turn thinking on or off", handlers.think),
    Command("prompt", "", "Show the prompt as the model receives it", handlers.prompt),
    Command("tools", "[on|off] [NAMES]", "List tools, or switch them on or off", handlers.tools),
    Command("read", "FILE", "Insert a text file into the prompt", handlers.read),
    Command("image", "FILE", "Attach an image to the next message", handlers.attach_image),
    Command(
        "audio", "FILE", "Attach a sound to the next message", handlers.attach_sound, ("sound",)
    ),
    Command("paste", "", "Attach the image in the clipboard", handlers.paste),
    Command("detach", "[N]", "Remove attachment N, or the last", handlers.detach),
    Command("preview", "on|off", "Show or hide previews of images", handlers.preview),
    Command(
        "export",
        "[FILE]",
        "Write the conversation as Markdown, or as JSON to FILE.json",
        handlers.write_conversation,
    ),
    Command(
        "save-stats",
        "[FILE]",
        "Write the statistics as JSON, and the screen as SVG",
        handlers.save_statistics,
    ),
    Command("stats", "", "Show or hide the statistics", lambda chat, _: chat.action_panel()),
    Command(
        "theme",
        "",
        "Switch between dark and light",
        lambda chat, _: chat.run_app_action("theme"),
    ),
    Command(
        "quit", "", "Leave the chat", lambda chat, _: chat.run_app_action("quit"), ("bye", "exit")
    ),
)


def parse(text: str) -> tuple[str, str] | None:
    """Splits a command into name and argument; None for a message.

    A message that begins with a slash is written with two. One that begins with a path, as of a
    dropped file, is no command.
    """
    name, _, argument = text[1:].partition(" ")
    if not text.startswith("/") or "/" in name:
        return None
    return name, argument.strip()


def run(chat: ChatControls, name: str, argument: str) -> str:
    """Runs a command; returns its notice, which may be empty.

    Raises:
        LocalmtpError: there is no such command, its argument is missing, or it failed.
    """
    command = find(name)
    if command is None:
        similar = nearest(name)
        hint = f"did you mean /{similar}?" if similar else "F1 lists all commands"
        raise LocalmtpError(f"unknown command /{name}", hint=hint)
    if command.needs_argument and not argument:
        raise LocalmtpError(
            f"/{command.name} needs an argument", hint=f"/{command.name} {command.argument}"
        )
    return command.run(chat, argument) or ""


def find(name: str) -> Command | None:
    """Returns the command of a name or an alias."""
    return next((c for c in COMMANDS if name == c.name or name in c.aliases), None)


def matching(text: str) -> list[Command]:
    """Returns the commands that an incomplete command may be completed to."""
    parsed = parse(text)
    if parsed is None or " " in text or "\n" in text:
        return []
    return [c for c in COMMANDS if any(n.startswith(parsed[0]) for n in (c.name, *c.aliases))]


def nearest(name: str) -> str:
    """Returns the most similar name or alias of a command; empty if none is similar."""
    names = [one for command in COMMANDS for one in (command.name, *command.aliases)]
    return next(iter(get_close_matches(name, names, n=1)), "")


def _no_notice(_: object) -> None:
    """Discards the result of an action that runs in the background."""
