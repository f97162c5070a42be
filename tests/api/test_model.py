"""The Python interface: replies, threads, cancelling, closing, errors."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import localmtp
from localmtp import Channel, Finished, FinishReason, Generated, LocalmtpError, Prefilled
from localmtp.cli.commands.run import command as run
from localmtp.models import resolve
from tests.remote.processes import free_port, listening

COUNT = "Count from 1 to 9."
NUMBERS = "1, 2, 3, 4, 5, 6, 7, 8, 9"
LONG = "Tell a long story. " * 20
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def model() -> Iterator[localmtp.LanguageModel]:
    with localmtp.load("nano", threads=1, ctx=1024) as loaded:
        yield loaded


def chat(model: localmtp.LanguageModel, *turns: str, **options: Any) -> localmtp.Reply:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return model.chat(messages, **({"temperature": 0} | options))


def test_the_package_exports_what_it_lists_and_imports_it_lazily() -> None:
    code = """
import localmtp, sys
assert not {"llama_cpp", "numpy", "jinja2", "localmtp.api"} & set(sys.modules)
assert set(localmtp.__all__) <= set(dir(localmtp))
for name in localmtp.__all__:
    getattr(localmtp, name)
assert not {"llama_cpp", "jinja2", "huggingface_hub"} & set(sys.modules)
assert not hasattr(localmtp, "no_such_name")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_are_those_of_the_command_line() -> None:
    arguments = {"model", "prompt", "model_option", "raw", "server", "api_key", "rpc"}
    media = {"image", "audio", "no_media"}  # `media`, and `mmproj="none"`, in Python
    devices = {  # fields of `devices`, a `DeviceOptions`
        *("device", "split_mode", "tensor_split", "main_gpu", "cpu_moe", "n_cpu_moe"),
        *("override_tensor", "no_kv_offload", "flash_attn", "repack", "no_mmap", "mlock"),
        "device_sampling",
    }
    output = {"as_json", "trace", "force", "quiet", "help"}
    flags = {str(param.name) for param in run.params if isinstance(param, click.Parameter)}
    loading = set(localmtp.load.__kwdefaults__ or {}) - {"on_download", "on_round"}
    options = set(localmtp.ChatOptions.__annotations__)
    assert devices < flags
    given = flags - arguments - output - media - devices
    assert loading | options | {"temp"} == given | {"temperature", "devices"}


def test_a_reply_is_events_text_and_statistics(model: localmtp.LanguageModel) -> None:
    reply = chat(model, COUNT)
    events = list(reply)
    assert isinstance(events[0], Prefilled)
    assert isinstance(events[-1], Finished)
    passes = [event for event in events if isinstance(event, Generated)]
    assert "".join(piece.text for event in passes for piece in event.pieces) == NUMBERS
    assert reply.text() == NUMBERS
    assert reply.thought() == ""
    assert reply.finish_reason() is FinishReason.STOP
    assert reply.stats() == events[-1].stats
    assert len(reply.token_ids()) == reply.stats().completion_tokens
    assert list(reply) == []
    assert "".join(chat(model, COUNT).stream_text()) == NUMBERS


def test_thoughts_are_not_part_of_the_text(model: localmtp.LanguageModel) -> None:
    reply = chat(model, "What is 3 plus 4?", think=True, max_tokens=80)
    channels = {p.channel for e in reply if isinstance(e, Generated) for p in e.pieces}
    assert Channel.THOUGHT in channels
    assert reply.thought()
    assert reply.thought() not in reply.text()


def test_a_conversation_reuses_the_cache_and_an_answer_is_continued(
    model: localmtp.LanguageModel,
) -> None:
    first = chat(model, COUNT)
    second = chat(model, COUNT, first.text(), "Say cat 3 times.")
    assert second.stats().reused_tokens > first.stats().prompt_tokens
    assert chat(model, COUNT, "1, 2, 3,").text() == " 4, 5, 6, 7, 8, 9"


def test_options_belong_to_one_reply(model: localmtp.LanguageModel) -> None:
    assert chat(model, COUNT, max_tokens=3, n_draft=0).stats().completion_tokens == 3
    reply = chat(model, COUNT, system="Be brief.", n_draft=3, max_tokens=None)
    assert reply.text() == NUMBERS
    assert reply.stats().drafted > 0
    assert chat(model, COUNT, n_draft="auto").stats().drafting != "off: --n-draft 0"
    sampled = {
        model.chat(COUNT, temperature=20.0, seed=7, n_draft=0, max_tokens=9).text() for _ in "12"
    }
    assert len(sampled) == 1


def test_completion_is_raw(model: localmtp.LanguageModel) -> None:
    reply = model.complete("one, two, three,", temperature=0, max_tokens=12, n_draft=0)
    assert reply.finish_reason() is FinishReason.LENGTH
    assert reply.stats().drafting == "off: --n-draft 0"
    assert reply.stats().prompt_tokens < 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"min_p": 1}, "min_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"seed": True}, "seed"),
        ({"n_draft": 17}, "n_draft"),
        ({"n_draft": "many"}, "n_draft"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"acceptance": "always"}, "acceptance"),
        ({"repeat_penalty": 0}, "repeat_penalty"),
        ({"presence_penalty": 3}, "presence_penalty"),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_call(
    model: localmtp.LanguageModel, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(LocalmtpError, match=said) as caught:
        model.chat(COUNT, **options)
    assert caught.value.hint


@pytest.mark.parametrize(
    "messages",
    [
        "",
        "  \n",
        [],
        [{"role": "system", "content": "Be brief."}],
        [{"role": "tool", "content": "x"}],
        [{"content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}],
    ],
)
def test_messages_that_are_not_valid_are_refused_by_the_call(
    model: localmtp.LanguageModel, messages: Any
) -> None:
    with pytest.raises(LocalmtpError) as caught:
        model.chat(messages)
    assert caught.value.hint


def test_unknown_options_and_two_system_prompts_are_refused(model: localmtp.LanguageModel) -> None:
    with pytest.raises(TypeError, match="temp"):
        model.chat(COUNT, temp=0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="system"):
        model.complete(COUNT, system="Be brief.")  # type: ignore[call-arg]
    with pytest.raises(LocalmtpError, match="system prompt"):
        model.chat(
            [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], system="c"
        )


def test_a_prompt_that_does_not_fit_fails_when_it_is_read(model: localmtp.LanguageModel) -> None:
    reply = model.chat(LONG * 20)
    for _ in range(2):
        with pytest.raises(LocalmtpError, match="and the context 1024"):
            reply.text()
    assert chat(model, COUNT).text() == NUMBERS


def test_replies_of_several_threads_are_generated_one_after_the_other(
    model: localmtp.LanguageModel,
) -> None:
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(chat(model, COUNT).text())) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert texts == [NUMBERS] * 6


def test_a_second_reply_in_one_thread_is_an_error_until_the_first_is_closed(
    model: localmtp.LanguageModel,
) -> None:
    with chat(model, COUNT) as first:
        next(first)
        with pytest.raises(LocalmtpError, match="another reply"):
            chat(model, COUNT).text()
    assert chat(model, COUNT).text() == NUMBERS
    assert first.finish_reason() is FinishReason.CANCELLED
    assert NUMBERS.startswith(first.text())


def test_leaving_a_loop_frees_the_model(model: localmtp.LanguageModel) -> None:
    for event in chat(model, COUNT):
        if isinstance(event, Generated):
            break
    gc.collect()
    assert chat(model, COUNT).text() == NUMBERS


def test_a_reply_is_cancelled_before_during_and_after_it_is_generated(
    model: localmtp.LanguageModel,
) -> None:
    before = model.chat(LONG, temperature=20.0, max_tokens=500)
    before.cancel()
    assert before.finish_reason() is FinishReason.CANCELLED
    during = model.chat(LONG, temperature=20.0, max_tokens=500)
    for event in during:
        if isinstance(event, Generated):
            canceller = threading.Thread(target=during.cancel)
            canceller.start()
            canceller.join()
    assert during.finish_reason() is FinishReason.CANCELLED
    assert during.stats().completion_tokens < 500
    done = chat(model, COUNT)
    assert done.text() == NUMBERS
    done.cancel()
    following = chat(model, COUNT)
    next(following)
    done.cancel()
    assert following.text() == NUMBERS


def test_an_unread_reply_that_is_closed_says_so(model: localmtp.LanguageModel) -> None:
    reply = chat(model, COUNT)
    reply.close()
    reply.close()
    assert list(reply) == []
    with pytest.raises(LocalmtpError, match="closed before"):
        reply.text()


def test_closing_a_model_ends_its_replies() -> None:
    model = localmtp.load(resolve("nano"), threads=1, ctx=1024)
    first = model.chat(LONG, temperature=20.0, max_tokens=900)
    next(first)
    errors: list[LocalmtpError] = []

    def wait() -> None:
        try:
            model.chat(COUNT).text()
        except LocalmtpError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    closing = threading.Thread(target=model.close)
    closing.start()
    closing.join(PATIENCE_S)
    waiting.join(PATIENCE_S)
    assert not closing.is_alive()
    model.close()
    assert first.finish_reason() is FinishReason.CANCELLED
    with pytest.raises(LocalmtpError, match="closed"):
        model.chat(COUNT).text()
    assert [error.message for error in errors] == ["the model is closed"]


def test_loading_reports_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(LocalmtpError, match=r"none\.gguf"):
        localmtp.load(tmp_path / "none.gguf")
    with pytest.raises(LocalmtpError, match="larger than"):
        localmtp.load("nano", ctx=1 << 30)


@pytest.mark.parametrize(
    "options",
    [
        {"ctx": 1},
        {"ctx": 512.5},
        {"threads": 0},
        {"threads": 100_000},
        {"gpu_layers": -1},
        {"kv_type": "q4_0"},
        {"batch": 0},
        {"batch": "512"},
    ],
    ids=str,
)
def test_a_load_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(LocalmtpError, match=f"`{name}`") as caught:
        localmtp.load("nano", **options)
    assert caught.value.hint


def test_rounds_are_reported() -> None:
    rounds: list[object] = []
    with localmtp.load("nano", threads=1, on_round=rounds.append) as model:
        stats = chat(model, COUNT).stats()
    assert len(rounds) == stats.target_passes


def test_a_model_of_a_server(tmp_path: Path) -> None:
    port = free_port()
    serve = [sys.executable, "-m", "localmtp", "serve", "nano", "--threads", "1"]
    with (
        listening([*serve, "--port", str(port)], port, tmp_path / "log") as url,
        localmtp.connect(url) as model,
    ):
        assert chat(model, COUNT).text() == NUMBERS
        assert model.complete("one, two,", temperature=0, max_tokens=5).token_ids() == []
    with pytest.raises(LocalmtpError):
        localmtp.connect(url)
