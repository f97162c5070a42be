"""Modules that commands import at run time, including deferred imports."""

import subprocess
import sys

import pytest

HEAVY = {
    "PIL",
    "gguf",
    "huggingface_hub",
    "jinja2",
    "llama_cpp",
    "numpy",
    "soundfile",
    "textual",
}


def modules_after(code: str) -> set[str]:
    """Returns top-level names in sys.modules after `code` has run in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
from localmtp.cli import cli
try:
    cli.main({arguments!r}, standalone_mode=False)
except SystemExit:
    pass
"""
    assert not HEAVY & modules_after(code)


def test_running_nano_needs_no_terminal_interface_and_no_hub() -> None:
    code = """
from localmtp.models import resolve
import localmtp.session.local
resolve("nano")
"""
    assert not {"textual", "click", "huggingface_hub", "gguf"} & modules_after(code)


def test_the_process_of_the_chat_loads_no_model() -> None:
    loaded = modules_after(
        "import localmtp.isolation, localmtp.tui.app, localmtp.tui.model_loading"
    )
    assert not {"PIL", "huggingface_hub", "jinja2", "llama_cpp", "soundfile"} & loaded


def test_the_engine_loads_no_front_end() -> None:
    loaded = modules_after("import localmtp.engine.pair, localmtp.engine.decoding.loop")
    assert not {"textual", "click", "huggingface_hub", "rich", "jinja2"} & (
        loaded - modules_after("import llama_cpp")
    )
