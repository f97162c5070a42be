"""The door: errors become one line on standard error and an exit code.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback

import click

from localmtp.errors import LocalmtpError

INTERRUPTED = 130

VISIBLE = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}
"""How control characters that are not ours, of a model or in a file's name, are shown."""


class ReaderGoneError(Exception):
    """Whoever read our standard output has closed it; nothing is wrong."""


def guarded(command: click.Command, arguments: list[str]) -> int:
    """Run a command and return its exit code; `--debug` anywhere shows tracebacks."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    arguments = [a for a in own if a != "--debug"] + arguments[len(own) :]
    try:
        status = command.main(arguments, prog_name="localmtp", standalone_mode=False)
    except ReaderGoneError:
        _silence_stdout()
        return 0
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LocalmtpError as error:
        return _fail(error.message, error.hint, debug)
    except MemoryError:
        return _fail("not enough memory", "a smaller model, quantization or context", debug)
    except Exception as error:  # noqa: BLE001 - the door: no traceback reaches a user
        return _fail(f"{type(error).__name__}: {error}", "--debug shows where it happened", debug)
    return status if isinstance(status, int) else 0


def _fail(message: str, hint: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"{click.style('error', fg='red', bold=True)}: {_shown(message)}", err=True)
    if hint:
        click.echo(f"{click.style('hint', fg='cyan')}: {_shown(hint)}", err=True)
    return 1


def _shown(words: str) -> str:
    """On one line, and nothing that a terminal would obey."""
    return " ".join(words.split()).translate(VISIBLE)


def _silence_stdout() -> None:
    """Keep the interpreter from complaining when it flushes standard output at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
