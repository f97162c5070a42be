"""Compares concurrent requests with llama.cpp's server, on the same files.

python -m localmtp.bench.lab.servers.load --llama-server PATH [--temps 0,1] [--json FILE] > load.md

Three servers run concurrently, and one at a time gets requests: `localmtp serve`, with the draft
length set per request, and llama.cpp's server with drafting and without. In every round, all of
them get the same requests at every load, in an order that rotates; medians over rounds are
reported. The load is a closed loop: when an answer ends, the next request is sent. Prompts are
those of `bench run`; both sides sample with top-k 64 and top-p 0.95, without a seed. CPU time per
token says more than speed on a machine with other work: with one thread, nothing waits for another
core. Either side may find a repeated prompt in its cache.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import cycle, product
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from localmtp.bench.workloads import workloads_for
from localmtp.hardware import cpu
from localmtp.models import resolve

_CONTEXT = 2048
"""Tokens of context per request."""
_DRAFTS = 3  # llama.cpp's default
_START_S = 600
_WARM_UP = 32
_FIRST_TEXT = re.compile(rb'"(?:content|reasoning_content)": ?"[^"]')
_USAGE = re.compile(rb'"completion_tokens": ?(\d+)')
_PROMPT = re.compile(rb'"prompt_tokens": ?(\d+)')
_CACHED = re.compile(rb'"cached_tokens": ?(\d+)')


@dataclass(frozen=True, eq=False)
class ServerConfig:
    """A server and its drafting."""

    server: str
    drafting: str
    port: int
    process: psutil.Process
    fields: dict[str, Any]
    """Additional fields of requests."""


@dataclass(frozen=True)
class TimedResponse:
    """Tokens and times of one response, in seconds from the request."""

    tokens: int
    prefilled: int
    first_s: float
    last_s: float


@dataclass(frozen=True)
class Burst:
    """All requests at one load in one round."""

    server: str
    drafting: str
    temperature: float
    load: int
    """Number of concurrent requests."""
    round: int
    requests: int
    failed: int
    tokens: int
    prefilled: int
    """Prompt tokens that were not in a cache."""
    wall_s: float
    tokens_per_s: float
    ttft_s: float
    """Median time to first token."""
    token_s: float
    """Median seconds between two tokens of a response."""
    cpu_s_per_1000: float
    """CPU seconds of the server per thousand tokens."""
    client_cpu_share: float
    """CPU time of this client by elapsed time."""


def main() -> None:
    """Measure as the command line says; print the table on standard output."""
    arguments = _arguments()
    files = resolve(arguments.model, offline=True)
    listed = workloads_for(files.name, arguments.prompts).values()
    # Interleaved by workload, so that a small load sees all of them.
    prompts = [text for kind in zip(*listed, strict=False) for text in kind]
    with ExitStack() as running:
        configs = list(_start(running, arguments, files.target, files.drafter))
        bursts = []
        endless = {
            config: _distinct(prompts, config.drafting) if arguments.distinct else cycle(prompts)
            for config in configs
        }
        for config in configs:  # warm up caches and pacing
            for temperature in arguments.temps:
                warm = replace(config, fields=config.fields | {"temperature": temperature})
                asyncio.run(_burst(warm, endless[config], 4, arguments.max_tokens, _WARM_UP))
        for turn in range(arguments.rounds):
            for load, temperature in product(arguments.loads, arguments.temps):
                for config in configs[turn % len(configs) :] + configs[: turn % len(configs)]:
                    burst = _measured(config, endless[config], load, turn, temperature, arguments)
                    bursts.append(burst)
                    print(_progress(burst), file=sys.stderr, flush=True)
    setting = {
        "model": files.name,
        "processor": cpu.processor(),
        "threads": arguments.threads,
        "parallel": arguments.parallel,
        "max_tokens": arguments.max_tokens,
        "rounds": arguments.rounds,
    }
    if arguments.json:
        report = setting | {"bursts": [asdict(burst) for burst in bursts]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(_table(setting, bursts)))


def _distinct(prompts: Sequence[str], drafting: str) -> Iterator[str]:
    """Return endless prompts that no request of this server has used, with any drafting."""
    return (f"{number} {drafting}. {prompt}" for number, prompt in enumerate(cycle(prompts)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="nano", help="a name or a file, with a drafter or none")
    parser.add_argument(
        "--llama-server", type=Path, help="path of llama.cpp's server; without it, only localmtp"
    )
    parser.add_argument("--server-flags", default="", help="more flags of llama.cpp's server")
    parser.add_argument("--threads", type=int, default=cpu.cores())
    parser.add_argument("--parallel", type=int, default=16, help="concurrent answers")
    parser.add_argument("--loads", type=_numbers, default=[1, 2, 4, 8, 16], help="1,2,4,8,16")
    parser.add_argument("--temps", type=_fractions, default=[0.0], help="0,1")
    parser.add_argument("--drafts", default="off,3,auto", help="of localmtp; the server has off,3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=2, help="prompts per workload")
    parser.add_argument("--distinct", action="store_true", help="no prompt is in a cache")
    parser.add_argument("--requests", type=int, default=16, help="minimum per burst")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _fractions(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _start(
    running: ExitStack, arguments: argparse.Namespace, target: Path, drafter: Path | None
) -> Iterator[ServerConfig]:
    """Start all servers, and yield their configurations."""
    threads, parallel = str(arguments.threads), str(arguments.parallel)
    command = [sys.executable, "-m", "localmtp", "serve", arguments.model, "--threads", threads]
    # --ctx is per request; further requests wait in the queue.
    command += ["--parallel", parallel, "--ctx", str(_CONTEXT), "--queue", "64", "--offline"]
    port = _free_port()
    ours = running.enter_context(_listening([*command, "--port", str(port)], port))
    drafts = arguments.drafts.split(",") if drafter else ["off"]
    for drafting, fields in (("off", {"n_draft": 0}), ("3", {"n_draft": _DRAFTS}), ("auto", {})):
        if drafting in drafts:
            yield ServerConfig("localmtp", drafting, port, ours, fields)
    if not arguments.llama_server:
        return
    command = [str(arguments.llama_server), "-m", str(target), "-t", threads, "-tb", threads]
    command += ["-np", parallel, "-c", str(_CONTEXT * arguments.parallel), "--no-webui"]
    command += arguments.server_flags.split()
    draft = ["-md", str(drafter), "--spec-type", "draft-mtp", "--spec-draft-n-max", str(_DRAFTS)]
    for drafting, flags in (("off", []), ("3", draft)):
        if drafting not in drafts:
            continue
        port = _free_port()
        theirs = running.enter_context(_listening([*command, *flags, "--port", str(port)], port))
        yield ServerConfig("llama.cpp", drafting, port, theirs, {})


@contextmanager
def _listening(command: list[str], port: int) -> Iterator[psutil.Process]:
    """Run a server, and yield its process once it is healthy."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        try:
            deadline = time.monotonic() + _START_S
            while not _healthy(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the server did not start: {' '.join(command)}")
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
    config: ServerConfig,
    prompts: Iterator[str],
    load: int,
    turn: int,
    temperature: float,
    arguments: argparse.Namespace,
) -> Burst:
    """Run one burst and measure it."""
    config = replace(config, fields=config.fields | {"temperature": temperature})
    requests = max(arguments.requests, 2 * load)
    used, began, own = _cpu_s(config.process), time.perf_counter(), time.process_time()
    answers, failed = asyncio.run(_burst(config, prompts, load, arguments.max_tokens, requests))
    wall_s = time.perf_counter() - began
    used, own = _cpu_s(config.process) - used, time.process_time() - own
    if not answers:
        raise SystemExit(f"{config.server} answered none of {requests} requests")
    tokens = sum(answer.tokens for answer in answers)
    rates = [(a.last_s - a.first_s) / (a.tokens - 1) for a in answers if a.tokens > 1]
    return Burst(
        server=config.server,
        drafting=config.drafting,
        temperature=temperature,
        load=load,
        round=turn,
        requests=requests,
        failed=failed,
        tokens=tokens,
        prefilled=sum(answer.prefilled for answer in answers),
        wall_s=wall_s,
        tokens_per_s=tokens / wall_s,
        ttft_s=median(answer.first_s for answer in answers),
        token_s=median(rates),
        cpu_s_per_1000=1000 * used / tokens,
        client_cpu_share=own / wall_s,
    )


async def _burst(
    config: ServerConfig, prompts: Iterator[str], load: int, max_tokens: int, requests: int
) -> tuple[list[TimedResponse], int]:
    """Send requests, `load` of them concurrently; return responses and the number that failed."""
    waiting = iter([next(prompts) for _ in range(requests)])
    answers: list[TimedResponse] = []
    failures: list[BaseException] = []

    async def worker() -> None:
        for prompt in waiting:
            try:
                answers.append(await _ask(config, prompt, max_tokens))
            except (OSError, ValueError, asyncio.IncompleteReadError) as failure:
                failures.append(failure)

    await asyncio.gather(*(worker() for _ in range(load)))
    if failures:
        print(f"failed: {failures[0]!r}", file=sys.stderr)
    return answers, len(failures)


async def _ask(config: ServerConfig, prompt: str, max_tokens: int) -> TimedResponse:
    """Time a streamed response without parsing it, which would take CPU time from the server."""
    body = json.dumps(
        {
            "messages": [{"role": "user", "content": prompt}],
            **{"stream": True, "stream_options": {"include_usage": True}},
            **{"max_tokens": max_tokens, "top_k": 64, "top_p": 0.95, "min_p": 0},
            **config.fields,
        }
    ).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", config.port)
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
    total, cached = (int((found.findall(answer) or [0])[-1]) for found in (_PROMPT, _CACHED))
    return TimedResponse(int(counted[-1]), total - cached, first_s, last_s)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _progress(burst: Burst) -> str:
    return (
        f"round {burst.round + 1}, {burst.load:2} concurrent, temperature {burst.temperature:g}, "
        f"{burst.server:9} {burst.drafting:4} {burst.tokens_per_s:8.1f} tokens/s, "
        f"{burst.cpu_s_per_1000:.2f} CPU s per 1000, {burst.tokens} generated, "
        f"{burst.prefilled} prefilled, {burst.failed} failed"
    )


def _table(setting: dict[str, Any], bursts: Sequence[Burst]) -> Iterator[str]:
    yield (
        f"{setting['model']} on {setting['processor']}, {setting['threads']} threads, "
        f"--parallel {setting['parallel']}, at most {setting['max_tokens']} tokens, medians of "
        f"{setting['rounds']} rounds with quartiles. Ratios are of throughput in the same round: "
        "of automatic drafting to the better of none and 3, and of localmtp to the better of "
        "llama.cpp's two.\n"
    )
    head = ("server", "drafting", "temperature", "concurrent", "tokens/s", "TTFT, ms")
    more = ("per token, ms", "CPU s / 1000 tokens", "auto / best", "by llama.cpp", "failed")
    yield _row(*head, *more)
    yield _row("---", "---", *["---:"] * 9)
    groups: dict[tuple[float, int, str, str], list[Burst]] = {}
    for burst in bursts:
        key = burst.temperature, burst.load, burst.server, burst.drafting
        groups.setdefault(key, []).append(burst)
    for (temperature, load, server, drafting), group in groups.items():
        own = _best(groups, temperature, load, server) if drafting == "auto" else []
        theirs = _best(groups, temperature, load, "llama.cpp") if server == "localmtp" else []
        yield _row(
            *(server, drafting, f"{temperature:g}", str(load)),
            _with_quartiles([b.tokens_per_s for b in group], 0),
            f"{1000 * _median(b.ttft_s for b in group):.0f}",
            f"{1000 * _median(b.token_s for b in group):.2f}",
            _with_quartiles([b.cpu_s_per_1000 for b in group], 2),
            *(_ratio(group, own), _ratio(group, theirs), str(sum(b.failed for b in group))),
        )


def _best(
    groups: Mapping[tuple[float, int, str, str], list[Burst]],
    temperature: float,
    load: int,
    server: str,
) -> list[Burst]:
    """Return the bursts of the fixed draft length that is faster there; none without any."""
    found = [groups.get((temperature, load, server, drafting), []) for drafting in ("off", "3")]
    return max(found, key=lambda group: _median(b.tokens_per_s for b in group) if group else 0)


def _ratio(ours: Sequence[Burst], theirs: Sequence[Burst]) -> str:
    if not theirs:
        return ""
    pairs = zip(ours, theirs, strict=True)
    return _with_quartiles([one.tokens_per_s / other.tokens_per_s for one, other in pairs], 2)


def _with_quartiles(values: Sequence[float], digits: int) -> str:
    if len(values) < 3:
        return f"{median(values):.{digits}f}"
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


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
