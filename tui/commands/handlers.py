"""Handlers of the slash commands that take an argument or do more than one action.

Each takes the chat and the argument, returns a notice (empty for none), and raises
`LocalmtpError`, which the chat shows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.tui.commands import export
from localmtp.tui.commands.attachments import as_block, describe, read_text
from localmtp.tui.commands.controls import ChatControls
from localmtp.tui.commands.settings import changed, check_for
from localmtp.tui.media.dropped_paths import typed_path
from localmtp.tui.rendering.formatting import count

if TYPE_CHECKING:
    from localmtp.mcp.host import HostedTool
    from localmtp.session import Session


def _session(chat: ChatControls) -> Session:
    if chat.session is None:
        raise LocalmtpError("no model is loaded yet")
    return chat.session


def model(chat: ChatControls, name: str) -> str:
    """Loads the model of a name, or shows the models to choose from."""
    if name:
        chat.switch_model(name)
    else:
        chat.action_models()
    return ""


def resume(chat: ChatControls, _: str) -> str:
    """Resumes an answer that was cut."""
    return "" if chat.resume_answer() else "no answer to resume"


def edit(chat: ChatControls, _: str) -> str:
    """Moves the last question to the prompt."""
    return "Enter branches off here" if chat.edit_last_question() else "nothing to edit now"


def undo(chat: ChatControls, _: str) -> str:
    """Deletes the last exchange."""
    return "deleted; /restore restores it" if chat.delete_last_exchange() else "nothing to delete"


def restore(chat: ChatControls, _: str) -> str:
    """Restores the exchange deleted last."""
    return "restored" if chat.restore_deleted() else "nothing to restore"


def copy(chat: ChatControls, which: str) -> str:
    """Copies the last answer, one of its code blocks, or the conversation."""
    if which == "all":
        session = _session(chat)
        return chat.copy(export.markdown(session.name, session.messages))
    answer = chat.last_answer()
    if answer is None:
        raise LocalmtpError("there is no answer to copy")
    if not which:
        return chat.copy(answer.text)
    blocks = answer.document.code_blocks()
    if not which.isdecimal() or not 1 <= int(which) <= len(blocks):
        raise LocalmtpError(
            f"no code block `{which}`", hint=f"the answer has {count(len(blocks), 'code block')}"
        )
    return chat.copy(blocks[int(which) - 1])


def set_value(chat: ChatControls, pair: str) -> str:
    """Changes a setting, given as KEY VALUE."""
    key, _, value = pair.partition(" ")
    session = _session(chat)
    settings = changed(session.settings, key, value.strip())
    check_for(session, settings)
    session.update_settings(settings)
    if key == "template":
        chat.check_tools()
        own = f" ({session.template})" if not settings.template else ""
        return f"template {Path(settings.template).name or 'own'}{own}, from the next message"
    return f"{key} {value.strip()}, from the next message"


def draft(chat: ChatControls, length: str) -> str:
    """Sets the draft length."""
    return set_value(chat, f"draft {length}")


def system(chat: ChatControls, text: str) -> str:
    """Sets or removes the system prompt."""
    session = _session(chat)
    session.update_settings(replace(session.settings, system=text))
    return "system prompt set, from the next message" if text else "system prompt removed"


def think(chat: ChatControls, state: str) -> str:
    """Turns thinking on or off."""
    return set_value(chat, f"think {state}")


def prompt(chat: ChatControls, _: str) -> str:
    """Shows the rendered prompt."""
    chat.show_prompt(_session(chat))
    return ""


def read(chat: ChatControls, name: str) -> str:
    """Inserts a text file into the prompt."""
    path = Path(name).expanduser()
    text = read_text(path)
    chat.insert_text(f"{as_block(path.name, text)}\n\n")
    return f"inserted {path.name}: {describe(len(text.encode()))}"


def attach_image(chat: ChatControls, name: str) -> str:
    """Attaches an image to the next message."""
    chat.attach(typed_path(name), "image")
    return ""


def attach_sound(chat: ChatControls, name: str) -> str:
    """Attaches a sound to the next message."""
    chat.attach(typed_path(name), "audio")
    return ""


def paste(chat: ChatControls, _: str) -> str:
    """Attaches the image in the clipboard."""
    chat.attach_from_clipboard()
    return ""


def detach(chat: ChatControls, number: str) -> str:
    """Removes an attachment of the next message, by its number from 1; the last by default."""
    if number and not (number.isdecimal() and int(number)):
        raise LocalmtpError(f"no attachment `{number}`", hint="/detach 1 removes the first")
    removed = chat.detach(int(number) - 1 if number else -1)
    return f"removed {removed}" if removed else "no such attachment"


def preview(chat: ChatControls, state: str) -> str:
    """Shows or hides previews of images."""
    if state not in ("on", "off"):
        raise LocalmtpError(f"invalid preview `{state}`", hint="/preview on, or /preview off")
    chat.show_previews(state == "on")
    return f"previews {state}, also in later chats"


def tools(chat: ChatControls, names: str) -> str:
    """Lists the tools, or switches some of them: `on` or `off`, and names; all without names."""
    host = chat.tools
    if host is None:
        raise LocalmtpError("there are no tools", hint="start with `localmtp chat --mcp CONFIG`")
    state, *chosen = names.split() or [""]
    if state not in ("", "on", "off"):
        raise LocalmtpError(f"invalid tools `{state}`", hint="/tools on NAME, or /tools off NAME")
    known = {tool.function for tool in host.tools}
    if unknown := [name for name in chosen if name not in known]:
        raise LocalmtpError(f"no tool `{unknown[0]}`", hint="/tools lists them")
    for tool in host.tools:
        if state and (not chosen or tool.function in chosen):
            tool.enabled = state == "on"
    listed = [
        f"{'●' if tool.enabled else '○'} {tool.function} ({tool.server}): {_first_line(tool)}"
        for tool in host.tools
    ]
    if not listed:
        return "no tools yet: the servers are starting"
    chat.show_text("\n".join(listed))
    return ""


def _first_line(tool: HostedTool) -> str:
    return next(iter(tool.description.splitlines()), "")


def write_conversation(chat: ChatControls, name: str) -> str:
    """Writes the conversation as Markdown or JSON, with its media in a folder next to it."""
    path = Path(name or "conversation.md").expanduser()
    session = _session(chat)
    chat.write_files(export.conversation_files(path, session.name, session.messages))
    return ""


def save_statistics(chat: ChatControls, name: str) -> str:
    """Writes the statistics as JSON and the screen as SVG."""
    path = Path(name or "localmtp-stats.json").expanduser()
    session = _session(chat)
    chat.write_files(
        {
            path: export.as_json(session.name, session.messages).encode(errors="replace"),
            path.with_suffix(".svg"): chat.screenshot().encode(errors="replace"),
        }
    )
    return ""
