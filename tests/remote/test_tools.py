"""Tools of the chat with a model on another server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from localmtp.engine.text.tool_calls import ToolCall
from localmtp.mcp.host import ToolHost
from localmtp.remote.session import open_remote
from localmtp.session import Choices, Message
from localmtp.tui.app import ChatApp
from localmtp.tui.model_loading import server_opener
from localmtp.tui.screens.approve import ApproveScreen
from localmtp.tui.tool_use import ToolUse
from tests.parrot import parrot
from tests.remote.loopback import Chunk, Script, ended, said, serving, usage
from tests.serve.servers import serving as serving_localmtp
from tests.serve.test_tools import CLOSE, OPEN, TEMPLATE
from tests.tui.screen import answered, ready, seen, wait_until

FUNCTION = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def part(index: int | None, identity: str | None, name: str | None, arguments: Any) -> Chunk:
    """A chunk with a part of a call."""
    call: dict[str, Any] = {"function": {"arguments": arguments}}
    if index is not None:
        call["index"] = index
    if identity:
        call["id"] = identity
    if name:
        call["function"]["name"] = name
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


def answer(chunks: Sequence[Chunk], owner: str = "someone") -> tuple[Message, Script, Any]:
    """The answer of a server, after results for its calls; with the session."""
    script = Script([*chunks, ended("tool_calls"), usage(5, 9)], owner=owner)
    with serving(script), closing(open_remote(script.url, None)) as session:
        session.tools = [FUNCTION]
        list(session.ask("Hi"))
        return session.messages[-1], script, session


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        (
            [part(0, "a", "add", ""), part(0, None, None, '{"x": '), part(0, None, None, '"<|"}')],
            [("add", {"x": "<|"}, "a")],
        ),
        (
            [part(0, "a", "add", "{}"), part(1, "b", "f", '{"y": [1]}')],
            [("add", {}, "a"), ("f", {"y": [1]}, "b")],
        ),
        # All numbered 0, as one server did; not numbered at all; arguments as an object.
        (
            [part(0, "a", "add", "{}"), part(0, "b", "add", "{}")],
            [("add", {}, "a"), ("add", {}, "b")],
        ),
        (
            [part(None, None, "add", {"x": 1}), part(None, None, "f", "")],
            [("add", {"x": 1}, ""), ("f", {}, "")],
        ),
    ],
)
def test_calls_are_put_together(
    chunks: list[Chunk], calls: list[tuple[str, dict[str, Any], str]]
) -> None:
    message, script, _ = answer([said("Let me see."), *chunks])
    assert message.text == "Let me see."
    found = [(call.name, call.arguments, call.id) for call in message.calls]
    assert [(name, arguments) for name, arguments, _ in found] == [each[:2] for each in calls]
    for (_, _, identity), (*_, expected) in zip(found, calls, strict=True):
        assert identity == expected or (not expected and identity.startswith("call_"))
    assert script.asked[0]["tools"] == [FUNCTION]


def test_arguments_that_are_no_object_are_text() -> None:
    message, _, _ = answer([part(0, "a", "add", '{"x": '), part(1, "b", "add", "[1]")])
    assert not message.calls and message.text == 'add({"x": )add([1])'


@pytest.mark.parametrize(
    "broken", [{"tool_calls": "x"}, {"tool_calls": [{"index": []}]}, {"tool_calls": [1]}]
)
def test_malformed_calls_are_an_error(broken: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="malformed chunk"):
        answer([{"choices": [{"index": 0, "delta": broken}]}])


@pytest.mark.parametrize("owner", ["someone", "llamacpp"])
def test_results_go_back_in_the_servers_format(owner: str) -> None:
    script = Script(
        [part(0, "a", "add", '{"x": "é"}'), ended("tool_calls")], owner=owner, pages=[""]
    )
    with serving(script), closing(open_remote(script.url, None)) as session:
        session.tools = [FUNCTION]
        list(session.ask("Hi"))
        session.messages[-1].thought = "hm"
        script.chunks = [said("Done."), ended()]
        list(session.continue_with(["42"]))
    _, call, result = script.asked[-1]["messages"]
    assert (call["role"], call["content"]) == ("assistant", None)
    assert call.get("reasoning_content") == ("hm" if owner == "llamacpp" else None)
    (written,) = call["tool_calls"]
    assert written["function"] == {"name": "add", "arguments": '{"x": "é"}'}
    assert result == {"role": "tool", "tool_call_id": "a", "name": "add", "content": "42"}
    assert "continue_final_message" not in script.asked[-1]
    assert session.messages[-1].text == "Done."
    step = session.messages[-1].steps[0]
    assert (step.calls, step.results) == ((ToolCall("add", {"x": "é"}, "a"),), ("42",))


async def test_the_chat_calls_tools_through_a_server(tmp_path: Path) -> None:
    """A model on `localmtp serve` calls a tool of the chat, reads the result, and answers."""
    template = (
        TEMPLATE
        + "{% if messages | selectattr('role', 'equalto', 'tool') | list | length >= 3 %}"
        + "<|video|>{% endif %}"
    )
    call = 'call:calculator{expression:<|"|>6 * 7<|"|>}'
    script = ["Let me see. ", OPEN, call, CLOSE, "<|video|>", "All done."]
    made = parrot(tmp_path / "agent.gguf", script, template=template, also={CLOSE: ["<turn|>"]})
    flags = ("--drafter", "none", "--ctx", "2048")
    with (
        serving_localmtp(*flags, model=str(made)) as server,
        closing(ToolHost((), builtin=True)) as host,
    ):
        choices = Choices(temperature=0.0, max_tokens=60)
        opener = server_opener(lambda name: open_remote(server.url, name, choices))
        chat = ChatApp(None, opener, tool_use=ToolUse(host, None))
        async with chat.run_test(size=(120, 40)) as pilot:
            conversation = await ready(pilot, chat)
            session = conversation.session
            assert session and session.knows_tools is True
            await pilot.press(*"Go", "enter")
            await wait_until(pilot, lambda: isinstance(chat.screen, ApproveScreen), "it asks")
            await pilot.press("c")
            await answered(pilot, conversation)
            assert 'calculator(expression="6 * 7") → 42' in seen(chat)
            assert "All done." in seen(chat)
            results = [step.results for step in session.messages[-1].steps]
            assert results == [("42",)] * 3
        chat.close()


async def test_a_server_without_tools_is_reported_at_once() -> None:
    with (
        serving_localmtp("--drafter", "none") as server,
        closing(ToolHost((), builtin=True)) as host,
    ):
        choices = Choices(temperature=0.0, max_tokens=4)
        opener = server_opener(lambda name: open_remote(server.url, name, choices))
        chat = ChatApp(None, opener, tool_use=ToolUse(host, None))
        async with chat.run_test(size=(120, 40)) as pilot:
            conversation = await ready(pilot, chat)
            await wait_until(pilot, lambda: "nano cannot call tools" in seen(chat), "a warning")
            await pilot.press(*"Hi", "enter")
            await answered(pilot, conversation)
            session = conversation.session
            assert session and session.messages[-1].text
        chat.close()


def test_llama_cpp_says_whether_its_template_has_tools() -> None:
    script = Script([], owner="llamacpp", properties={"chat_template_caps": {}})
    with serving(script), closing(open_remote(script.url, None)) as session:
        assert session.knows_tools is None
    script.properties = {"chat_template_caps": {"supports_tools": False}}
    with serving(script), closing(open_remote(script.url, None)) as session:
        assert session.knows_tools is False
