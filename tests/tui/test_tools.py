"""Tools in the chat: asked for, run, shown folded, and followed by an answer."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from localmtp.engine.pair import LoadOptions
from localmtp.history import History
from localmtp.mcp.config import ToolServer
from localmtp.mcp.host import ToolHost
from localmtp.session import Choices
from localmtp.tui.app import ChatApp
from localmtp.tui.model_loading import local_opener
from localmtp.tui.screens.approve import ApproveScreen
from localmtp.tui.tool_use import ToolUse
from tests.parrot import parrot
from tests.serve.test_tools import CLOSE, OPEN, TEMPLATE
from tests.tui.screen import answered, ready, seen, wait_until

SERVER = str(Path(__file__).parents[1] / "mcp" / "server.py")


def prepared() -> tuple[Choices, LoadOptions]:
    return Choices(temperature=0.0, max_tokens=60), LoadOptions(threads=1, context=2048)


def model(path: Path, call: str, times: int) -> str:
    """A model that calls a tool a number of times, and then says that it is done."""
    template = (
        TEMPLATE
        + "{% if messages | selectattr('role', 'equalto', 'tool') | list | length >= "
        + f"{times} %}}<|video|>{{% endif %}}"
    )
    script = ["Let me see. ", OPEN, call, CLOSE, "<|video|>", "All done."]
    made = parrot(path / "agent.gguf", script, template=template, also={CLOSE: ["<turn|>"]})
    return str(made)


def app(name: str, use: ToolUse, history: Path | None = None) -> ChatApp:
    return ChatApp(name, local_opener(name, "none", True, prepared), history, tool_use=use)


async def test_ten_calls_end_to_end(tmp_path: Path) -> None:
    name = model(tmp_path, 'call:calculator{expression:<|"|>6 * 7<|"|>}', 10)
    path = tmp_path / "history.sqlite3"
    with closing(ToolHost((), builtin=True)) as host:
        chat = app(name, ToolUse(host, tmp_path / "approved"), path)
        async with chat.run_test(size=(120, 60)) as pilot:
            conversation = await ready(pilot, chat)
            await pilot.press(*"Compute", "enter")
            await wait_until(pilot, lambda: isinstance(chat.screen, ApproveScreen), "it asks")
            assert "6 * 7" in seen(chat) and "calculator" in seen(chat)
            await pilot.press("a")
            await wait_until(pilot, lambda: conversation.answer is None, "the answer is over")
            session = conversation.session
            assert session is not None
            steps = session.messages[-1].steps
            assert [step.results for step in steps] == [("42",)] * 10
            assert session.messages[-1].text == "All done."
            assert 'calculator(expression="6 * 7") → 42' in seen(chat)
            assert "All done." in seen(chat)
            await pilot.press(*"Again", "enter")  # allowed for good
            await wait_until(pilot, lambda: len(session.messages) == 4, "it is asked")
            await wait_until(pilot, lambda: conversation.answer is None, "it is answered")
            await pilot.press(*"/tools off calculator", "enter")
            await wait_until(pilot, lambda: len(host.functions()) == 1, "it is switched off")
            await wait_until(pilot, lambda: "○ calculator" in seen(chat), "tools are listed")
    assert (tmp_path / "approved").read_text() == "builtin/calculator"
    saved = History(path)
    (found,) = saved.find()
    assert saved.load(found.id)[1].steps == steps


async def test_a_call_that_is_not_allowed_and_a_server_that_hangs(tmp_path: Path) -> None:
    name = model(tmp_path, "call:hang{}", 1)
    config = ToolServer("tests", sys.executable, (SERVER,))
    with closing(ToolHost([config])) as host:
        host.wait(60)
        chat = app(name, ToolUse(host, None))
        async with chat.run_test(size=(120, 40)) as pilot:
            conversation = await ready(pilot, chat)
            await pilot.press(*"Go", "enter")
            await wait_until(pilot, lambda: isinstance(chat.screen, ApproveScreen), "it asks")
            await pilot.press("n")
            await wait_until(pilot, lambda: conversation.answer is None, "the answer is over")
            assert "did not allow" in seen(chat) and "All done." in seen(chat)
            conversation.show_conversation([])
            await pilot.press(*"Go", "enter")
            await wait_until(pilot, lambda: isinstance(chat.screen, ApproveScreen), "it asks")
            await pilot.press("y")
            await wait_until(pilot, lambda: "running" in seen(chat), "it runs")
            conversation.stop()
            await wait_until(pilot, lambda: conversation.answer is None, "it has stopped")
            assert "stopped" in seen(chat)


async def test_a_model_without_tools_is_reported_at_once(tmp_path: Path) -> None:
    """nano's template describes none: it answers without, until another template is chosen."""
    template = tmp_path / "tools.jinja"
    template.write_text(TEMPLATE)
    with closing(ToolHost((), builtin=True)) as host:
        chat = app("nano", ToolUse(host, None))
        async with chat.run_test(size=(120, 40)) as pilot:
            conversation = await ready(pilot, chat)
            session = conversation.session
            assert session is not None
            await wait_until(pilot, lambda: "nano cannot call tools" in seen(chat), "a warning")
            conversation.prompt.put("Hi")
            await pilot.press("enter")
            await answered(pilot, conversation)
            assert session.messages[-1].text and not session.tools
            conversation.prompt.put(f"/set template {template}")
            await pilot.press("enter")
            await wait_until(pilot, lambda: bool(session.settings.template), "it is set")
            conversation.prompt.put("Hi")
            await pilot.press("enter")
            await answered(pilot, conversation, 4)
            assert "calculator" in session.prompt()
        chat.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_the_command_line(tmp_path: Path) -> None:
    """`localmtp chat --mcp` refuses a configuration that is none before the chat opens."""
    if sys.platform == "win32":
        return
    import pty

    config = tmp_path / "mcp.json"
    config.write_text('{"mcpServers": {"a": {}}}')
    terminal, other = pty.openpty()
    options: dict[str, Any] = {"stdin": other, "stdout": other, "stderr": subprocess.PIPE}
    try:
        process = subprocess.run(
            [sys.executable, "-m", "localmtp", "chat", "nano", "--mcp", str(config)],
            **options,
            text=True,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(other)
    assert process.returncode == 1
    assert "the server `a` is invalid" in process.stderr
