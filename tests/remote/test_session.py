"""Sessions over OpenAI's API, with a server that replays scripted answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from localmtp.engine.events import (
    Channel,
    Event,
    Finished,
    FinishReason,
    Generated,
    Origin,
    Prefilled,
)
from localmtp.errors import LocalmtpError
from localmtp.remote.session import RemoteSession, open_remote
from localmtp.session import Choices
from tests.remote.loopback import Chunk, Script, ended, said, serving, usage


@contextmanager
def conversing(script: Script, choices: Choices | None = None) -> Iterator[RemoteSession]:
    with serving(script):
        session = open_remote(script.url, None, choices, script.key)
        try:
            yield session
        finally:
            session.close()


def last(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


class TestAnyServer:
    """A server without extensions."""

    def test_counts_tokens_from_the_usage(self) -> None:
        script = Script([said("Hello"), said(" there"), ended(), usage(7, 3)])
        with conversing(script) as session:
            finished = last(list(session.ask("Hi")))
        assert session.messages[-1].text == "Hello there"
        assert finished.reason is FinishReason.STOP
        assert (finished.stats.prompt_tokens, finished.stats.completion_tokens) == (7, 3)
        assert finished.stats.ttft_s > 0
        assert finished.stats.prefill_tokens_per_s == 0  # not measured
        assert (
            finished.stats.drafting == session.drafting == "unknown: the server does not report it"
        )

    def test_sends_only_fields_of_openai(self) -> None:
        script = Script([said("x"), ended("length")])
        with conversing(script, Choices(max_tokens=5, seed=3, system="Be brief.")) as session:
            assert last(list(session.ask("Hi"))).reason is FinishReason.LENGTH
        (asked,) = script.asked
        assert set(asked) == {"path", "model", "messages", "stream", "stream_options"} | {
            "temperature",
            "top_p",
            "max_tokens",
            "seed",
        }
        assert asked["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ]

    def test_sends_the_whole_conversation(self) -> None:
        script = Script([said("x"), ended()])
        with conversing(script) as session:
            for question in ("one", "two"):
                list(session.ask(question))
        assert [m["content"] for m in script.asked[-1]["messages"]] == ["one", "x", "two"]

    @pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
    def test_thoughts_are_separate_from_the_answer(self, name: str) -> None:
        thought: Chunk = {"choices": [{"index": 0, "delta": {name: "hm"}}]}
        with conversing(Script([thought, said("yes"), ended()])) as session:
            events = list(session.ask("Hi"))
        assert (session.messages[-1].thought, session.messages[-1].text) == ("hm", "yes")
        assert isinstance(events[0], Generated)
        assert events[0].pieces[0].channel is Channel.THOUGHT
        assert events[0].pieces[0].origin is Origin.UNKNOWN

    def test_text_split_at_any_byte_arrives_intact(self) -> None:
        text = "a\u2028b\x85c 🙂 é"
        whole = f'data: {{"choices": [{{"delta": {{"content": "{text}"}}}}]}}\r\n\r\n'.encode()
        chunks: list[Chunk] = [b": a comment\n\n", *(whole[i : i + 1] for i in range(len(whole)))]
        with conversing(Script([*chunks, ended()])) as session:
            list(session.ask("Hi"))
        assert session.messages[-1].text == text

    def test_lone_surrogates_are_replaced_in_both_directions(self) -> None:
        half = b'data: {"choices": [{"delta": {"content": "half \\ud83d"}}]}\n\n'
        script = Script([half, ended()])
        with conversing(script, Choices(system="\ud800")) as session:
            list(session.ask("Hi \udc00"))
            list(session.complete("\udc00"))
        assert session.messages[-1].text == "half \ufffd"
        assert [m["content"] for m in script.asked[0]["messages"]] == ["\ufffd", "Hi \ufffd"]
        assert script.asked[1]["prompt"] == "\ufffd"

    def test_plain_completion(self) -> None:
        chunk: Chunk = {"choices": [{"index": 0, "text": " 4", "finish_reason": "length"}]}
        script = Script([chunk, usage(3, 1)])
        with conversing(script) as session:
            events = list(session.complete("1, 2, 3,"))
        assert script.asked[0]["path"] == "/v1/completions"
        assert script.asked[0]["prompt"] == "1, 2, 3,"
        assert isinstance(events[0], Generated)
        assert events[0].pieces[0].text == " 4"
        assert last(events).reason is FinishReason.LENGTH

    def test_draft_length_is_rejected(self) -> None:
        with (
            conversing(Script(), Choices(n_draft=0)) as session,
            pytest.raises(LocalmtpError, match="does not accept a draft length"),
        ):
            session.ask("Hi")

    def test_resume_is_rejected_where_the_server_would_start_over(self) -> None:
        with conversing(Script([said("x"), ended("length")])) as session:
            list(session.ask("Hi"))
            with pytest.raises(LocalmtpError, match="cannot continue"):
                session.resume()


def timed(text: str, n: int, drafted: int, accepted: int) -> Chunk:
    """Chunk of llama.cpp with `timings_per_token`."""
    timings = {"cache_n": 2, "prompt_n": 11, "prompt_ms": 5.0, "predicted_n": n}
    timings["predicted_ms"] = 250.0 * n
    if drafted:
        timings |= {"draft_n": drafted, "draft_n_accepted": accepted}
    return said(text, timings=timings)


class TestLlamaCpp:
    """Passes are reconstructed from running totals."""

    CHUNKS = (
        {**said(""), "prompt_progress": {"total": 13, "cache": 2, "processed": 13}},
        timed("I", 1, 0, 0),
        *(timed(text, 2 + i, 3, 2) for i, text in enumerate((" am", " a", " b"))),
        timed(" c", 5, 3, 2),  # a pass without a draft
        *(timed(text, 6 + i, 5, 2) for i, text in enumerate((" d",))),
        ended(),
        {**usage(13, 7), "timings": {**timed("", 7, 8, 2)["timings"]}},  # type: ignore[call-overload,index]
    )

    def test_passes_are_reconstructed_from_the_totals(self) -> None:
        with conversing(Script(self.CHUNKS, owner="llamacpp")) as session:
            events = list(session.ask("Hi"))
        passes = [e for e in events if isinstance(e, Generated)]
        assert events[0] == Prefilled(13, 13, 2)
        assert ["".join(p.text for p in e.pieces) for e in passes] == [
            *("I", " am a b", " c", " d", "")
        ]
        assert [len(e.drafted) for e in passes] == [0, 3, 0, 2, 3]
        drafted, target = Origin.DRAFT, Origin.TARGET
        assert [p.origin for p in passes[0].pieces] == [Origin.PREFILL]
        assert [p.origin for p in passes[1].pieces] == [drafted, drafted, target]
        stats = last(events).stats
        assert (stats.drafted, stats.accepted, stats.target_passes) == (8, 2, 4)
        assert stats.acceptance_by_position == (1 / 3, 1 / 3, 0)
        assert stats.drafting == "on"
        assert (stats.prompt_tokens, stats.reused_tokens) == (13, 2)
        assert stats.prefill_tokens_per_s == pytest.approx(11 / 0.005)

    def test_buffered_chunks_do_not_inflate_the_speed(self) -> None:
        with conversing(Script(self.CHUNKS, owner="llamacpp")) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert stats.decode_s >= 7 * 0.25
        assert stats.decode_tokens_per_s <= 4

    def test_server_without_drafts_reports_drafting_off(self) -> None:
        chunks = (timed("I", 1, 0, 0), timed(" am", 2, 0, 0), ended())
        with conversing(Script(chunks, owner="llamacpp")) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert stats.drafting == "off: the server drafted nothing"
        assert stats.tokens_per_pass == 1

    def test_resumes_a_partial_answer(self) -> None:
        script = Script([timed("x", 1, 0, 0), ended("length")], owner="llamacpp")
        with conversing(script) as session:
            list(session.ask("Hi"))
            list(session.resume())
        assert session.messages[-1].text == "xx"
        assert script.asked[1]["continue_final_message"] is True
        assert script.asked[1]["messages"][-1] == {"role": "assistant", "content": "x"}


class TestFaults:
    """One-line errors; partial answers are retained."""

    def test_connection_refused(self) -> None:
        with serving(Script()) as script:
            pass
        with pytest.raises(LocalmtpError, match="cannot connect"):
            open_remote(script.url, None)

    def test_wrong_key(self) -> None:
        with serving(Script(key="secret")) as script:
            with pytest.raises(LocalmtpError, match="rejects the API key: Invalid API Key"):
                open_remote(script.url, None, api_key="guess")
            open_remote(script.url, None, api_key="secret").close()

    def test_unknown_model(self) -> None:
        with (
            serving(Script(models=("gemma-4-E4B-it", "other"))) as script,
            pytest.raises(LocalmtpError, match="no model") as caught,
        ):
            open_remote(script.url, "gemma-4-E2B-it")
        assert "gemma-4-E4B-it" in caught.value.hint

    def test_other_kind_of_server(self) -> None:
        with (
            serving(Script()) as script,
            pytest.raises(LocalmtpError, match="not an OpenAI-compatible server"),
        ):
            open_remote(f"{script.url}/somewhere", None)

    @pytest.mark.parametrize("url", ["ftp://x", "http://", "http://a:b", ""])
    def test_invalid_url(self, url: str) -> None:
        with pytest.raises(LocalmtpError, match="not a URL"):
            open_remote(url, None)

    def test_lost_connection_retains_the_partial_answer(self) -> None:
        with conversing(Script([said("Hel"), said("lo")], done=False)) as session:
            events = []
            with pytest.raises(LocalmtpError):
                for event in session.ask("Hi"):
                    events.append(event)
        assert last(events).reason is FinishReason.LOST
        assert session.messages[-1].text == "Hello"
        assert session.messages[-1].finish is FinishReason.LOST

    def test_error_in_the_stream_is_reported(self) -> None:
        chunks: list[Chunk] = [said("Hel"), {"error": {"message": "out of memory"}}]
        with (
            conversing(Script(chunks)) as session,
            pytest.raises(LocalmtpError, match="out of memory"),
        ):
            list(session.ask("Hi"))
        assert session.messages[-1].text == "Hel"

    def test_error_line_is_reported(self) -> None:
        line: Chunk = b'error: {"code": 400, "message": "the context is full"}\n\n'
        with (
            conversing(Script([line])) as session,
            pytest.raises(LocalmtpError, match="the context is full"),
        ):
            list(session.ask("Hi"))

    @pytest.mark.parametrize("tokens", [None, "5", -1, 10**30, [], True])
    def test_implausible_usage_is_ignored(self, tokens: object) -> None:
        counts = {"prompt_tokens": tokens, "completion_tokens": tokens}
        script = Script([said("a"), said("b"), ended(), {"choices": [], "usage": counts}])
        with conversing(script) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert (stats.prompt_tokens, stats.completion_tokens) == (0, 2)

    def test_lone_surrogates_are_replaced(self) -> None:
        chunk: Chunk = b'data: {"choices": [{"delta": {"content": "a\\ud800b"}}]}\n\n'
        with conversing(Script([chunk, ended()])) as session:
            list(session.ask("Hi"))
        assert session.messages[-1].text == "a\ufffdb"

    def test_line_that_does_not_end(self) -> None:
        endless: list[Chunk] = [b'data: {"x": "', *([b"A" * (1 << 20)] * 20)]
        with (
            conversing(Script(endless)) as session,
            pytest.raises(LocalmtpError, match="line of more than 16 MiB"),
        ):
            list(session.ask("Hi"))

    @pytest.mark.parametrize(
        "chunk",
        [
            b"data: {oops\n\n",
            b"data: [1]\n\n",
            b"data: " + b"[" * 100_000 + b"\n\n",
            {"choices": [{"delta": {"content": ["x"]}}]},
            {**said("x"), "prompt_progress": {"processed": "1", "total": 1, "cache": 0}},
            {"choices": "none"},
            {"choices": [{"delta": 5}]},
            {**said("x"), "timings": {"cache_n": 1}},
        ],
    )
    def test_malformed_chunk_is_reported(self, chunk: Chunk) -> None:
        with (
            conversing(Script([chunk])) as session,
            pytest.raises(LocalmtpError, match=r"invalid JSON|not an object|malformed chunk"),
        ):
            list(session.ask("Hi"))

    def test_key_with_invalid_characters(self) -> None:
        with pytest.raises(LocalmtpError, match="API key"):
            open_remote("http://127.0.0.1:9", None, api_key="line\nbreak")

    def test_cancel_wakes_the_reader_of_a_silent_server(self) -> None:
        read, released = threading.Event(), threading.Event()

        with conversing(Script([said("Hel"), lambda: released.wait(30)])) as session:

            def cancel() -> None:
                read.wait(30)
                session.cancel()

            canceller = threading.Thread(target=cancel)
            canceller.start()
            events = []
            for event in session.ask("Hi"):
                events.append(event)
                read.set()  # the server is silent from here on
            released.set()
            canceller.join()
        assert last(events).reason is FinishReason.CANCELLED
        assert session.messages[-1].text == "Hel"
