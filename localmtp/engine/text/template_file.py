"""Chat templates in files of their own."""

from __future__ import annotations

from pathlib import Path

from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.errors import LocalmtpError

_LARGEST = 1 << 20
"""Bytes of a file that is read as a template."""


def read_template(path: Path) -> str:
    """Reads a chat template from a file.

    Raises:
        LocalmtpError: it cannot be read, or is no template.
    """
    try:
        with path.open("rb") as file:
            source = file.read(_LARGEST).decode()
    except OSError as error:
        raise LocalmtpError(
            f"cannot read {path}: {error.strerror}", hint="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise LocalmtpError(
            f"{path} is not a text file", hint="a chat template is a Jinja file"
        ) from error
    if not source.strip():
        raise LocalmtpError(f"{path} is empty", hint="a chat template is a Jinja file")
    try:
        template = ChatTemplate(source, bos="")
    except LocalmtpError as error:
        reason = error.message.partition(": ")[2].rstrip(".")
        raise LocalmtpError(
            f"{path} is not a chat template: {reason}",
            hint="correct it, or use the model's own template",
        ) from error
    if not template.uses_messages:
        raise LocalmtpError(
            f"{path} is not a chat template: it does not use `messages`",
            hint="a chat template is a Jinja file that loops over `messages`",
        )
    return source
