"""Renders chat templates in a child process, which can be killed.

For templates beyond the guard (`template_guard`). The process has limits on memory and time, and
its parent enforces both as well, because not every system does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from localmtp.errors import LocalmtpError

_SECONDS = 6
"""Limit of CPU seconds of the process."""

_WALL_SECONDS = 12
_MEMORY = 512 << 20
"""Bytes."""

_PERIOD_S = 0.05
_CODE = "from localmtp.engine.text.template_process import main; main()"


class TemplateFailedError(Exception):
    """A template raised an error."""


def render_in_process(source: str, variables: dict[str, Any]) -> str:
    """Renders a template in a process of its own.

    Args:
        source: the template.
        variables: its variables, as JSON data.

    Raises:
        TemplateFailedError: the template raised an error.
        LocalmtpError: it exceeded the limit of time or memory.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
    with subprocess.Popen(
        [sys.executable, "-P", "-X", "utf8", "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            output = _watched(process, json.dumps({"source": source, "variables": variables}))
        finally:
            process.kill()
    if not output:
        raise too_much(f"{_MEMORY >> 20} MB of memory")
    answer = json.loads(output)
    if "error" in answer:
        raise TemplateFailedError(answer["error"])
    return str(answer["text"])


def _watched(process: subprocess.Popen[str], request: str) -> str:
    """Returns what the process prints, unless it exceeds a limit first."""
    import psutil  # type: ignore[import-untyped]

    give_up = monotonic() + _WALL_SECONDS
    given: str | None = request
    while True:
        try:
            output, _ = process.communicate(given, timeout=_PERIOD_S)
        except subprocess.TimeoutExpired:
            given = None
        else:
            return output
        with suppress(psutil.Error):
            watched = psutil.Process(process.pid)
            times = watched.cpu_times()
            if times.user + times.system > _SECONDS:
                raise too_much(f"{_SECONDS} s")
            if watched.memory_info().rss > _MEMORY:
                raise too_much(f"{_MEMORY >> 20} MB of memory")
        if monotonic() > give_up:
            raise too_much(f"{_WALL_SECONDS} s")


def too_much(limit: str) -> LocalmtpError:
    """Returns the error for a template that exceeds a limit."""
    return LocalmtpError(
        f"the model's chat template takes more than {limit}", hint="prompt it with --raw"
    )


def main() -> None:
    """Renders the template on standard input; runs in the child."""
    _limit()
    # In case the parent was killed. A daemon: it does not keep a finished process.
    threading.Thread(target=_exit_later, daemon=True).start()
    request = json.load(sys.stdin)
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from localmtp.engine.text.template_dialect import OPTIONS, install_dialect

    environment = ImmutableSandboxedEnvironment(**OPTIONS)
    install_dialect(environment)
    try:
        text = environment.from_string(request["source"]).render(request["variables"])
        answer = {"text": text}
    except MemoryError:
        return
    except Exception as error:  # noqa: BLE001 - whatever a template raises
        answer = {"error": f"{error}"}
    json.dump(answer, sys.stdout)


def _exit_later() -> None:
    sleep(2 * _WALL_SECONDS)
    os._exit(1)


def _limit() -> None:
    """Limits this process, where the system supports it."""
    if sys.platform != "win32":
        import resource

        for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, 2 * _SECONDS)):
            with suppress(OSError, ValueError):  # macOS
                resource.setrlimit(kind, (most, most))
