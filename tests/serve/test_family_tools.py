"""Tool calls of Llama 3 and Mistral, which have no closing marker or none at all, end to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.serve.test_tag_tools import check_required_call, speaking
from tests.serve.test_tools import ask, calls
from tests.session.test_tool_families import BARE, CASES, CONTROL, LLAMA


@pytest.mark.parametrize(
    ("template", "script", "text", "called"),
    [CASES["llama, split"], CASES["mistral, list, split"], CASES["mistral, arguments"]],
    ids=["llama", "mistral, list", "mistral, arguments"],
)
def test_calls(
    tmp_path: Path, template: str, script: Sequence[str], text: str, called: list[Any]
) -> None:
    with speaking(tmp_path, script, template, control=CONTROL) as client:
        for stream in (False, True):
            message = ask(client, stream=stream)
            assert calls(message) == called
            assert (message["content"] or "") == text
            assert message["finish"] == "tool_calls"
            assert "unparsed_tool_calls" not in message["stats"]
        check_required_call(client, '{"name": "weather"', "weather[ARGS]")


def test_without_tools_a_call_is_text(tmp_path: Path) -> None:
    with speaking(tmp_path, [BARE[:9], BARE[9:]], LLAMA) as client:
        for stream in (False, True):
            message = ask(client, stream=stream, tools=[])
            assert message["content"] == BARE
            assert message["finish"] == "stop"
            message = ask(client, stream=stream, response_format={"type": "json_object"})
            assert message["content"] or message["tool_calls"]
