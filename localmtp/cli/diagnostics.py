"""Errors as one line on standard error and an exit code.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from io import StringIO

import click

from localmtp.cli import output
from localmtp.cli.output import ReaderGoneError, visible
from localmtp.errors import LocalmtpError

INTERRUPTED = 130


def guarded(command: click.Command, arguments: list[str]) -> int:
    """Run a command and return its exit code.

    `--debug` anywhere shows tracebacks, `--quiet` anywhere leaves out notes and progress.
    """
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    output.be_quiet("--quiet" in own)
    arguments = [a for a in own if a not in ("--debug", "--quiet")] + arguments[len(own) :]
    try:
        status = command.main(arguments, prog_name="localmtp", standalone_mode=False)
    except ReaderGoneError:
        _silence_stdout()
        return 0
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        usage = StringIO()
        error.show(file=usage)
        click.echo(visible(usage.getvalue()), err=True, nl=False)
        return error.exit_code
    except LocalmtpError as error:
        return _fail(error.message, error.hint, debug)
    except MemoryError:
        return _fail("not enough memory", "use a smaller model, quantization or context", debug)
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        return _fail(f"{type(error).__name__}: {error}", "--debug shows where it happened", debug)
    return status if isinstance(status, int) else 0


def _fail(message: str, hint: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    _silence_stdout_if_unwritable()
    click.echo(f"{click.style('error', fg='red', bold=True)}: {_one_line(message)}", err=True)
    if hint:
        click.echo(f"{click.style('hint', fg='cyan')}: {_one_line(hint)}", err=True)
    return 1


def _one_line(text: str) -> str:
    """Return text on one line, with control characters made visible."""
    return visible(" ".join(text.split()))


def _silence_stdout_if_unwritable() -> None:
    """Discard unwritten output, so that the interpreter does not fail on it at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _silence_stdout()


def _silence_stdout() -> None:
    """Redirect standard output to the null device; the interpreter flushes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
