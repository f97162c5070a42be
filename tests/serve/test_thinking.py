"""Thinking budgets of requests, in every API: the thought is closed and the answer begins."""

from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.parrot import parrot
from tests.serve.servers import serving

ENOUGH = "I have to answer now"
SCRIPT = ["<|channel>", "thought\n", *(f" word{i}" for i in range(40)), "<channel|>", "Done."]
LIMITS: list[dict[str, Any]] = [
    {"thinking_budget_tokens": 10},
    {"reasoning_budget": 10},
    {"reasoning_effort": "high", "thinking_token_budget": 10},
    {"chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 10}},
]


def test_thinking_budgets(tmp_path: Path) -> None:
    model = str(parrot(tmp_path / "thinker.gguf", SCRIPT))
    flags = ("--drafter", "none", "--ctx", "1024", "--temp", "0", "--max-tokens", "90")
    with serving(*flags, "--think-budget", "25", model=model) as server:
        with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
            check_chat(client)
            check_responses(client)
        with anthropic.Anthropic(base_url=server.root, api_key="any", max_retries=0) as other:
            check_messages(other)


def check_chat(client: openai.OpenAI) -> None:
    def ask(**fields: Any) -> tuple[str, Any]:
        messages: list[Any] = [{"role": "user", "content": "Why?"}]
        answer = client.chat.completions.create(
            model="thinker.gguf", messages=messages, extra_body=fields
        )
        (choice,) = answer.choices
        thought = (choice.message.model_extra or {})["reasoning_content"]
        assert answer.usage and answer.usage.completion_tokens_details
        used = answer.usage.completion_tokens_details.reasoning_tokens
        assert used == (choice.model_extra or {})["stats"]["thought_tokens"]
        return thought, choice

    for fields in LIMITS:
        thought, choice = ask(**fields)
        assert " word5" in thought and " word18" not in thought
        assert thought.rstrip().endswith("so far.") and ENOUGH in thought
        assert choice.model_extra["stats"]["thought_cut"] is True
    assert " word20" in ask()[0] and " word35" not in ask()[0]  # the server's
    whole, choice = ask(thinking_budget_tokens=-1)
    assert " word39" in whole and ENOUGH not in whole
    assert choice.message.content == "Done."
    assert choice.model_extra["stats"]["thought_cut"] is False
    assert " word39" in ask(reasoning_effort="low")[0]
    assert " word4" not in ask(reasoning_effort="none")[0]
    with pytest.raises(openai.BadRequestError, match="thinking_budget_tokens"):
        ask(thinking_budget_tokens=-2)


def check_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model="thinker.gguf", input="Why?", reasoning={"effort": "none"}
    )
    assert answer.usage and answer.usage.output_tokens_details.reasoning_tokens < 25


def check_messages(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(
        model="thinker.gguf",
        max_tokens=2000,
        messages=[{"role": "user", "content": "Why?"}],
        thinking={"type": "enabled", "budget_tokens": 10},
    )
    block = answer.content[0]
    assert block.type == "thinking"
    assert " word5" in block.thinking and " word18" not in block.thinking
