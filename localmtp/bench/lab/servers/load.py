"""Compare serving several requests at once with llama.cpp's server, on the same files.

python -m localmtp.bench.lab.servers.load --llama-server PATH [--json load.json] > load.md

Three servers run side by side and only one is asked at a time: `localmtp serve`, whose requests
choose their draft length themselves, and llama.cpp's with drafting and without. In every round all
of them get the same requests at every load, in an order that is turned from round to round; what
is shown is the median over rounds. Requests of one load are sent as a closed loop: whenever an
answer ends, the next question is asked. Questions are those of `bench`, answers are greedy.
Prompts may be found in a cache, on either side, as they are when people ask again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from localmtp.bench.workloads import workloads_for
from localmtp.hardware import cpu
from localmtp.models import resolve

_CONTEXT = 2048
"""Positions for each request."""
_DRAFTS = 3  # llama.cpp's default
_START_S = 600
_FIRST_TEXT = re.compile(rb'"(?:content|reasoning_content)": ?"[^"]')
_USAGE = re.compile(rb'"completion_tokens": ?(\d+)')


@dataclass(frozen=True)
class Way:
    """A server, and how it drafts."""

    server: str
    drafting: str
    port: int
    process: psutil.Process
    fields: dict[str, Any]
    """What a request asks for besides."""


@dataclass(frozen=True)
class Answer:
    """One request, in seconds from its beginning."""

    tokens: int
    first_s: float
    last_s: float


@dataclass(frozen=True)
class Burst:
    """All requests of one load in one round."""

    server: str
    drafting: str
    load: int
    round: int
    requests: int
    failed: int
    tokens: int
    wall_s: float
    tokens_per_s: float
    ttft_s: float
    """Median over answers, as the next two."""
    token_s: float
    """From one token to the next: of the time between the first and the last."""
    cpu_s_per_1000: float
    """Processor time that the server took for a thousand tokens."""
    client_cpu_share: float
    """Processor time that asking took, as a share of the wall's."""


def main() -> None:
    """Run everything; the table goes to standard output."""
    asked = _arguments()
    files = resolve(asked.model, offline=True)
    listed = workloads_for(files.name, asked.prompts).values()
    # One of every kind in turn, so that a small load sees all kinds.
    prompts = [text for kind in zip(*listed, strict=False) for text in kind]
    with ExitStack() as running:
        ways = list(_start(running, asked, files.target, files.drafter))
        bursts = []
        for way in ways:  # caches are filled, and pacing has seen the model
            asyncio.run(_burst(way, prompts, 4, asked.max_tokens, 2 * len(prompts)))
        for turn in range(asked.rounds):
            for load in asked.loads:
                for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
                    burst = _measured(way, prompts, load, turn, asked)
                    bursts.append(burst)
                    print(_told(burst), file=sys.stderr, flush=True)
    setting = {
        "model": files.name,
        "processor": cpu.processor(),
        "threads": asked.threads,
        "parallel": asked.parallel,
        "max_tokens": asked.max_tokens,
        "rounds": asked.rounds,
    }
    if asked.json:
        report = setting | {"bursts": [asdict(burst) for burst in bursts]}
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(_table(setting, bursts)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="nano", help="installed, with a drafter")
    parser.add_argument("--llama-server", type=Path, help="llama.cpp's; without it ours alone")
    parser.add_argument("--threads", type=int, default=cpu.cores())
    parser.add_argument("--parallel", type=int, default=16, help="requests generated at once")
    parser.add_argument("--loads", type=_numbers, default=[1, 2, 4, 8, 16], help="1,2,4,8,16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=2, help="of each kind")
    parser.add_argument("--requests", type=int, default=16, help="in a burst, at least")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _start(
    running: ExitStack, asked: argparse.Namespace, target: Path, drafter: Path | None
) -> Iterator[Way]:
    """All servers, ready."""
    assert drafter is not None, f"{asked.model} has no drafter"
    threads, parallel = str(asked.threads), str(asked.parallel)
    command = [sys.executable, "-m", "localmtp", "serve", asked.model, "--threads", threads]
    # The context is that of each request; the queue takes what is not generated at once.
    command += ["--parallel", parallel, "--ctx", str(_CONTEXT), "--queue", "64", "--offline"]
    port = _free_port()
    ours = running.enter_context(_listening([*command, "--port", str(port)], port))
    for drafting, fields in (("off", {"n_draft": 0}), ("3", {"n_draft": _DRAFTS}), ("auto", {})):
        yield Way("localmtp", drafting, port, ours, fields)
    if not asked.llama_server:
        return
    command = [str(asked.llama_server), "-m", str(target), "-t", threads, "-tb", threads]
    command += ["-np", parallel, "-kvu", "-c", str(_CONTEXT * asked.parallel), "--no-webui"]
    draft = ["-md", str(drafter), "--spec-type", "draft-mtp", "--spec-draft-n-max", str(_DRAFTS)]
    for drafting, flags in (("off", []), ("3", draft)):
        port = _free_port()
        theirs = running.enter_context(_listening([*command, *flags, "--port", str(port)], port))
        yield Way("llama.cpp", drafting, port, theirs, {})


@contextmanager
def _listening(command: list[str], port: int) -> Iterator[psutil.Process]:
    """A server's process, once it is healthy."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        try:
            deadline = time.monotonic() + _START_S
            while not _healthy(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"it did not start: {' '.join(command)}")
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _measured(
    way: Way, prompts: Sequence[str], load: int, turn: int, asked: argparse.Namespace
) -> Burst:
    """One burst, with what it cost."""
    requests = max(asked.requests, 2 * load)
    used, began, own = _cpu_s(way.process), time.perf_counter(), time.process_time()
    answers, failed = asyncio.run(_burst(way, prompts, load, asked.max_tokens, requests))
    wall_s = time.perf_counter() - began
    used, own = _cpu_s(way.process) - used, time.process_time() - own
    if not answers:
        raise SystemExit(f"{way.server} answered none of {requests} requests")
    tokens = sum(answer.tokens for answer in answers)
    rates = [(a.last_s - a.first_s) / (a.tokens - 1) for a in answers if a.tokens > 1]
    return Burst(
        server=way.server,
        drafting=way.drafting,
        load=load,
        round=turn,
        requests=requests,
        failed=failed,
        tokens=tokens,
        wall_s=wall_s,
        tokens_per_s=tokens / wall_s,
        ttft_s=median(answer.first_s for answer in answers),
        token_s=median(rates),
        cpu_s_per_1000=1000 * used / tokens,
        client_cpu_share=own / wall_s,
    )


async def _burst(
    way: Way, prompts: Sequence[str], load: int, max_tokens: int, requests: int
) -> tuple[list[Answer], int]:
    """So many requests, `load` of them at any time; the answers, and how many failed."""
    waiting = iter([prompts[i % len(prompts)] for i in range(requests)])
    answers: list[Answer] = []
    failures: list[BaseException] = []

    async def ask_on() -> None:
        for prompt in waiting:
            try:
                answers.append(await _ask(way, prompt, max_tokens))
            except (OSError, ValueError, asyncio.IncompleteReadError) as failure:
                failures.append(failure)

    await asyncio.gather(*(ask_on() for _ in range(load)))
    if failures:
        print(f"failed: {failures[0]!r}", file=sys.stderr)
    return answers, len(failures)


async def _ask(way: Way, prompt: str, max_tokens: int) -> Answer:
    """A streamed answer, by the bytes: a client that parses would take time from the server."""
    body = json.dumps(
        {
            "messages": [{"role": "user", "content": prompt}],
            **{"stream": True, "stream_options": {"include_usage": True}},
            **{"temperature": 0, "max_tokens": max_tokens},
            **way.fields,
        }
    ).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
    try:
        writer.write(head.encode() + body)
        first_s = last_s = 0.0
        parts: list[bytes] = []
        while part := await reader.read(1 << 16):
            if not first_s or b'"content"' in part:
                last_s = time.perf_counter() - began
            parts.append(part)
            if not first_s and _FIRST_TEXT.search(part):
                first_s = last_s
    finally:
        writer.close()
    answer = b"".join(parts)
    counted = _USAGE.findall(answer)
    if b" 200 " not in answer[:20] or not counted or not first_s:
        raise ValueError(answer[:300])
    return Answer(int(counted[-1]), first_s, last_s)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _told(burst: Burst) -> str:
    return (
        f"round {burst.round + 1}, {burst.load:2} at once, {burst.server:9} {burst.drafting:4} "
        f"{burst.tokens_per_s:8.1f} tokens/s, {burst.failed} failed"
    )


def _table(setting: dict[str, Any], bursts: Sequence[Burst]) -> Iterator[str]:
    yield (
        f"{setting['model']} on {setting['processor']}, {setting['threads']} threads, "
        f"--parallel {setting['parallel']}, at most {setting['max_tokens']} tokens, median of "
        f"{setting['rounds']} rounds; auto / best: throughput against the better of no drafting "
        "and 3, in the same round, with quartiles.\n"
    )
    head = ("server", "drafting", "at once", "tokens/s", "first token, ms", "per token, ms")
    yield _row(*head, "CPU s / 1000 tokens", "auto / best", "failed")
    yield _row("---", "---", *["---:"] * 7)
    groups: dict[tuple[int, str, str], list[Burst]] = {}
    for burst in bursts:
        groups.setdefault((burst.load, burst.server, burst.drafting), []).append(burst)
    rates = {key: _median(b.tokens_per_s for b in group) for key, group in groups.items()}
    for (load, server, drafting), group in groups.items():
        better = max(("off", "3"), key=lambda other: rates[load, server, other])
        rounds = zip(group, groups[load, server, better], strict=True)
        shares = [ours.tokens_per_s / other.tokens_per_s for ours, other in rounds]
        share = _with_quartiles(shares) if drafting == "auto" else ""
        yield _row(
            *(server, drafting, str(load), f"{rates[load, server, drafting]:.0f}"),
            f"{1000 * _median(b.ttft_s for b in group):.0f}",
            f"{1000 * _median(b.token_s for b in group):.2f}",
            f"{_median(b.cpu_s_per_1000 for b in group):.2f}",
            *(share, str(sum(b.failed for b in group))),
        )


def _with_quartiles(values: Sequence[float]) -> str:
    if len(values) < 4:
        return f"{median(values):.2f}"
    low, middle, high = quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _median(values: Iterable[float]) -> float:
    return median(list(values))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    main()
