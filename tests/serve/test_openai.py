"""The API through OpenAI's client."""

from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.heads import write_qwen35
from tests.serve.servers import Server, serving

WHO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Who are you?"}]
COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Count from 1 to 9."}]


def test_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="nano", messages=WHO, temperature=0)
    (choice,) = reply.choices
    assert choice.message.role == "assistant"
    assert choice.message.content is not None
    assert choice.message.content.startswith("I am **nano**")
    assert choice.finish_reason == "stop"
    assert reply.model == "nano"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert choice.model_extra is not None
    stats = choice.model_extra["stats"]
    assert stats["completion_tokens"] == reply.usage.completion_tokens
    assert stats["drafting"] == "on" or stats["drafting"].startswith("off: ")


def test_stream_equals_whole_response(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="nano", messages=COUNT, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model="nano",
            messages=COUNT,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *spoken, last = chunks
    assert spoken[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in spoken)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in spoken if c.choices[0].finish_reason] == ["stop"]
    assert all(chunk.usage is None for chunk in spoken)
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens


async def test_asynchronous_client(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="any") as client:
        stream = await client.chat.completions.create(
            model="nano", messages=WHO, temperature=0, stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text.startswith("I am **nano**")


def test_stop_strings_end_the_answer(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="nano", messages=COUNT, temperature=0, stop=["never", ", 5"]
    )
    assert reply.choices[0].message.content == "1, 2, 3, 4"
    assert reply.choices[0].finish_reason == "stop"


def test_max_tokens_ends_the_answer(client: openai.OpenAI) -> None:
    old = client.chat.completions.create(model="nano", messages=WHO, max_tokens=3)
    new = client.chat.completions.create(model="nano", messages=WHO, max_completion_tokens=3)
    for reply in (old, new):
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 3


def test_seed_reproduces_an_answer() -> None:
    """On a server of its own: with other answers in the pool, attention rounds differently."""
    story: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me a story."}]
    with (
        serving() as server,
        openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        texts = [
            client.chat.completions.create(
                model="nano",
                messages=story,
                temperature=1.5,
                top_p=1,
                seed=seed,
                max_tokens=40,
                extra_body={"n_draft": 2, "top_k": 0, "min_p": 0.0},
            )
            .choices[0]
            .message.content
            for seed in (7, 7, 8)
        ]
    assert texts[0] == texts[1] != texts[2]


def test_several_choices(client: openai.OpenAI) -> None:
    options = {"model": "nano", "messages": WHO, "n": 3, "temperature": 1.5, "max_tokens": 20}
    reply = client.chat.completions.create(**options, seed=1)  # type: ignore[call-overload]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert reply.usage.prompt_tokens < 20
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(**options, seed=1, stream=True):  # type: ignore[call-overload]
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in reply.choices]


def test_logprobs_of_a_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="nano", messages=WHO, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(entry.token for entry in logprobs.content) == reply.choices[0].message.content
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        best = entry.top_logprobs[0]
        assert (best.token, best.logprob) == (entry.token, entry.logprob)  # greedy
        assert bytes(entry.bytes or []) == entry.token.encode()
        assert 0 >= entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob


@pytest.mark.parametrize("n_draft", [0, 1, 4, 16, "auto"])
def test_logprobs_do_not_depend_on_drafting(client: openai.OpenAI, n_draft: int | str) -> None:
    def scores(draft: int | str) -> list[float]:
        reply = client.completions.create(
            model="nano",
            prompt="1, 2, 3, 4, 5,",
            temperature=0,
            max_tokens=12,
            logprobs=1,
            extra_body={"n_draft": draft},
        )
        logprobs = reply.choices[0].logprobs
        assert logprobs is not None
        return logprobs.token_logprobs or []

    assert scores(n_draft) == pytest.approx(scores(0), abs=0.05)


def test_draft_length_per_request(client: openai.OpenAI) -> None:
    def stats(n_draft: int) -> dict[str, float]:
        reply = client.chat.completions.create(
            model="nano", messages=COUNT, temperature=0, extra_body={"n_draft": n_draft}
        )
        extra = reply.choices[0].model_extra
        assert extra is not None
        found: dict[str, float] = extra["stats"]
        return found

    assert stats(0)["drafted"] == 0
    assert stats(5)["draft_length_mean"] > 3


def test_completions_of_several_prompts(client: openai.OpenAI) -> None:
    reply = client.completions.create(
        model="nano", prompt=["1, 2, 3, 4,", "2, 3, 4, 5,"], n=2, temperature=0, logprobs=2
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.choices[0].text == reply.choices[1].text
    assert reply.choices[0].text.startswith(" 5, 6")
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert "".join(logprobs.tokens) == reply.choices[0].text
    assert logprobs.text_offset[:2] == [0, len(logprobs.tokens[0])]
    assert reply.usage is not None
    assert len(logprobs.tokens) == 16  # the API's default


def test_prompt_of_token_ids_and_streamed_completion(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model="nano", prompt=[2, 600, 601], max_tokens=5, stream=True, temperature=0
    )
    streamed = "".join(chunk.choices[0].text for chunk in stream)
    whole = client.completions.create(
        model="nano", prompt=[[2, 600, 601]], max_tokens=5, temperature=0
    )
    assert streamed == whole.choices[0].text


def test_system_prompt_and_content_parts(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="nano",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Who are "}, {"type": "text", "text": "you?"}],
            },
        ],
        temperature=0,
    )
    assert "nano" in (reply.choices[0].message.content or "")


def test_conversation_reuses_the_kv_cache(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="nano", messages=COUNT, temperature=0)
    turns: list[ChatCompletionMessageParam] = [
        *COUNT,
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "Thanks."},
    ]
    second = client.chat.completions.create(model="nano", messages=turns, max_tokens=1)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens is not None
    assert second.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens


def test_a_conversation_that_was_swapped_out_continues(client: openai.OpenAI) -> None:
    words = " ".join(f"word{i}" for i in range(40))
    turns: list[Any] = [{"role": "user", "content": f"Remember: {words}. Count from 1 to 9."}]
    first = client.chat.completions.create(model="nano", messages=turns, temperature=0)
    for subject in ("a fox", "the sun"):
        client.chat.completions.create(
            model="nano",
            messages=[{"role": "user", "content": f"Tell me a long story about {subject}."}],
            max_tokens=150,
            extra_body={"n_draft": 0, "temperature": 2.0, "seed": 1},
        )
    turns += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "Who are you?"},
    ]
    second = client.chat.completions.create(model="nano", messages=turns, temperature=0)
    assert first.usage and second.usage and second.usage.prompt_tokens_details
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) > first.usage.prompt_tokens
    assert "nano" in (second.choices[0].message.content or "")


@pytest.mark.parametrize(("name", "ram"), [("nano", "512"), ("nano", "0"), ("tiny.gguf", "512")])
def test_a_conversation_returns_after_others_took_its_slot(
    tmp_path: Path, name: str, ram: str
) -> None:
    """That of a model with a recurrent state and an MTP head too."""
    model = name if name == "nano" else str(tmp_path / name)
    if name != "nano":
        write_qwen35(Path(model))
    words = " ".join(f"word{i}" for i in range(40))
    turns: list[Any] = [{"role": "user", "content": f"Remember: {words}. Count from 1 to 9."}]
    with (
        serving("--parallel", "1", "--ctx", "1024", "--cache-ram", ram, model=model) as server,
        openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        options: Any = {"model": name, "temperature": 0, "max_tokens": 60}
        first = client.chat.completions.create(**options, messages=turns)
        other: list[Any] = [{"role": "user", "content": "Who are you?"}]
        client.chat.completions.create(**options, messages=other)
        turns += [{"role": "assistant", "content": first.choices[0].message.content}, *other]
        second = client.chat.completions.create(**options, messages=turns)
    assert first.usage and second.usage and second.usage.prompt_tokens_details
    cached = second.usage.prompt_tokens_details.cached_tokens or 0
    assert (cached > first.usage.prompt_tokens - 16) == (ram != "0")
    assert name != "nano" or "nano" in (second.choices[0].message.content or "")


def test_thoughts_are_separate_from_the_answer(client: openai.OpenAI) -> None:
    options: Any = {"model": "nano", "messages": WHO, "temperature": 0}
    thinking = client.chat.completions.create(**options, reasoning_effort="high")
    message = thinking.choices[0].message
    thought = (message.model_extra or {})["reasoning_content"]
    assert thought.strip()
    assert "<|channel>" not in thought + (message.content or "")
    streamed = {"reasoning_content": "", "content": ""}
    switch = {"chat_template_kwargs": {"enable_thinking": True}}
    for chunk in client.chat.completions.create(**options, stream=True, extra_body=switch):
        delta = chunk.choices[0].delta.model_dump()
        for part in streamed:
            streamed[part] += delta.get(part) or ""
    assert streamed == {"reasoning_content": thought, "content": message.content}
    plain = client.chat.completions.create(**options, reasoning_effort="none")
    assert "reasoning_content" not in (plain.choices[0].message.model_extra or {})


def test_model_list(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["nano"]
    assert client.models.retrieve("nano").id == "nano"
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        client.models.retrieve("gpt-9")
    with pytest.raises(openai.NotFoundError, match="'nano' is"):
        client.chat.completions.create(model="gpt-9", messages=WHO)


def test_metrics_match_the_statistics(server: Server, client: openai.OpenAI) -> None:
    before = server.metrics()
    reply = client.chat.completions.create(
        model="nano", messages=COUNT, temperature=0, extra_body={"n_draft": 3}
    )
    after = server.metrics()
    gained = {name: value - before.get(name, 0) for name, value in after.items()}
    extra = reply.choices[0].model_extra
    assert extra is not None
    stats = extra["stats"]
    assert reply.usage is not None
    assert gained["localmtp_completion_tokens_total"] == reply.usage.completion_tokens
    assert gained["localmtp_prompt_tokens_total"] == reply.usage.prompt_tokens
    assert gained["localmtp_answers_total{stop}"] == 1
    drafted = [gained.get(f"localmtp_drafted_tokens_total{{{i}}}", 0) for i in (1, 2, 3)]
    accepted = [gained.get(f"localmtp_accepted_tokens_total{{{i}}}", 0) for i in (1, 2, 3)]
    rates = [a / d for a, d in zip(accepted, drafted, strict=True)]
    assert rates == pytest.approx(stats["acceptance_by_position"])
    passes = [gained.get(f"localmtp_target_passes_total{{{i}}}", 0) for i in range(4)]
    assert sum(passes) == stats["target_passes"]
    assert sum(i * n for i, n in enumerate(passes)) == stats["drafted"] == sum(drafted)
    assert gained["localmtp_seconds_total{verify}"] == pytest.approx(stats["time"]["verify_s"])
