"""Images from the system's clipboard, through the tools that the system has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from dataclasses import dataclass

from localmtp.errors import LocalmtpError
from localmtp.media import Media, media_from_bytes

TIMEOUT_S = 10.0
"""Time for a tool to answer; PowerShell takes seconds to start."""

NAME = "clipboard.png"
"""Name of a pasted image."""

_POWERSHELL = (
    "Add-Type -AssemblyName System.Windows.Forms,System.Drawing;"
    "$image = [Windows.Forms.Clipboard]::GetImage(); if ($image) {"
    "$stream = New-Object IO.MemoryStream;"
    "$image.Save($stream, [Drawing.Imaging.ImageFormat]::Png);"
    "[Convert]::ToBase64String($stream.ToArray()) }"
)

_APPLESCRIPT = "get the clipboard as «class PNGf»"


@dataclass(frozen=True, slots=True)
class _ClipboardTool:
    command: tuple[str, ...]
    decode: Callable[[bytes], bytes] = bytes
    """Turns the output into the bytes of a file."""


def clipboard_image() -> Media | None:
    """Returns the image in the clipboard; None if there is none. Blocking.

    Raises:
        LocalmtpError: no tool can read the clipboard, or the image cannot be decoded.
    """
    tools = _tools()
    present = [tool for tool in tools if shutil.which(tool.command[0])]
    if not present:
        names = " or ".join(f"`{tool.command[0]}`" for tool in tools) or "a display"
        raise LocalmtpError(
            f"images in the clipboard need {names}",
            hint="install it, or attach a file: /image FILE",
        )
    for tool in present:
        if data := _output(tool):
            return media_from_bytes(data, NAME)
    return None


def _tools() -> list[_ClipboardTool]:
    """Returns the tools for the clipboard of this session."""
    powershell = ("-NoProfile", "-STA", "-Command", _POWERSHELL)
    if sys.platform == "darwin":
        script = _ClipboardTool(("osascript", "-e", _APPLESCRIPT), _from_applescript)
        return [_ClipboardTool(("pngpaste", "-")), script]
    if sys.platform == "win32":
        return [_ClipboardTool(("powershell", *powershell), _from_base64)]
    found = []
    if os.environ.get("WAYLAND_DISPLAY"):
        found.append(_ClipboardTool(("wl-paste", "--no-newline", "--type", "image/png")))
    if os.environ.get("DISPLAY"):
        found.append(
            _ClipboardTool(("xclip", "-selection", "clipboard", "-target", "image/png", "-out"))
        )
    if os.environ.get("WSL_DISTRO_NAME"):
        found.append(_ClipboardTool(("powershell.exe", *powershell), _from_base64))
    return found


def _output(tool: _ClipboardTool) -> bytes:
    """Returns what a tool prints; nothing if it fails, as all do without an image."""
    try:
        done = subprocess.run(
            tool.command,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return tool.decode(done.stdout) if done.returncode == 0 else b""
    except (OSError, subprocess.TimeoutExpired, NotBase64, ValueError):
        return b""


def _from_base64(output: bytes) -> bytes:
    return b64decode(output.strip())


def _from_applescript(output: bytes) -> bytes:
    """Decodes `«data PNGf89504E47…»`."""
    match = re.search(rb"PNGf([0-9A-Fa-f]+)", output)
    return bytes.fromhex(match[1].decode()) if match else b""
