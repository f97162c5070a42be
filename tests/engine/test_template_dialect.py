"""Chat templates are rendered as transformers renders them."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.engine.text.quoting import unquote
from localmtp.errors import LocalmtpError
from tests.engine.template_goldens import CONVERSATIONS, FILE, templates

GOLDEN: dict[str, str | None] = json.loads(FILE.read_text("utf-8"))["prompts"]


@pytest.mark.parametrize("case", GOLDEN)
def test_a_prompt_is_that_of_transformers(case: str) -> None:
    name, _, conversation = case.partition("/")
    messages, think, tools = CONVERSATIONS[conversation]
    template = ChatTemplate(templates()[name], bos="<bos>")
    if (expected := GOLDEN[case]) is None:
        with pytest.raises(LocalmtpError, match="rejects the conversation"):
            template.render(messages, think=think, tools=tools)
    else:
        assert unquote(template.render(messages, think=think, tools=tools)) == expected


def test_the_date_is_todays() -> None:
    template = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}", bos="")
    text = template.render([], think=False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", text)
    assert abs((datetime.now() - datetime.fromisoformat(text)).days) <= 1
