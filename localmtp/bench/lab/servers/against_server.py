"""Compares localmtp with llama.cpp's server on the same files, answer by answer.

    python -m localmtp.bench.lab.servers.against_server llama-server TARGET DRAFTER --json FILE

The server runs twice, without drafting and with its default draft length; both get the same prompt
token ids, threads and sampling as localmtp, which answers at several draft lengths. Every prompt is
answered by all of them in succession, in an order that rotates. Each side times its own tokens
after the first.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import quantiles
from time import monotonic, sleep

import httpx

from localmtp.bench.workloads import workloads_for, workloads_in
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.errors import LocalmtpError
from localmtp.hardware.cpu import cores
from localmtp.models import ModelFiles
from localmtp.models.embedded import NANO
from localmtp.session import Choices, Message, Role
from localmtp.session.local import LocalSession
from localmtp.session.prompts import prompt_tokens

_SERVER_LENGTH = 3
"""llama.cpp's default."""

_DRAFTING = f"server {_SERVER_LENGTH}"

_LENGTHS = (0, 1, 2, 3, 4, None)
"""Draft lengths of localmtp; None is automatic pacing."""

_START_S = 120.0
"""Seconds for a server to load a model."""

_ANSWER_S = 600.0


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """Tokens and time of one answer."""

    name: str
    temperature: float
    prompt: str
    tokens: int
    """Number of tokens after the first."""
    seconds: float
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All answers of one configuration at one temperature."""

    name: str
    temperature: float
    tokens_per_s: float
    """Sum of tokens by sum of seconds."""
    quartiles: tuple[float, ...]
    """Quartiles of the tokens per second of single answers."""
    acceptance: float | None


Answerer = Callable[[str, float], TimedAnswer]
"""Answers a prompt at a temperature."""


def local_answerer(name: str, length: int | None, session: LocalSession, longest: int) -> Answerer:
    """Return an answerer of localmtp at a draft length; automatic pacing keeps learning."""

    def answer(prompt: str, temperature: float) -> TimedAnswer:
        sampling = replace(session.settings.sampling, temperature=temperature)
        session.update_settings(
            replace(session.settings, sampling=sampling, n_draft=length, max_tokens=longest)
        )
        session.messages.clear()
        for _ in session.ask(prompt):
            pass
        made = session.stats()
        return TimedAnswer(
            name,
            temperature,
            prompt,
            max(0, made.completion_tokens - 1),
            made.decode_s,
            made.drafted,
            made.accepted,
        )

    return answer


def server_answerer(
    name: str, url: str, session: LocalSession, pair: Pair, longest: int
) -> Answerer:
    """Return an answerer of a llama.cpp server."""
    client = httpx.Client(base_url=url, timeout=_ANSWER_S)

    def answer(prompt: str, temperature: float) -> TimedAnswer:
        session.messages[:] = [Message(Role.USER, prompt)]
        sampling = session.settings.sampling
        body = {
            "prompt": prompt_tokens(pair, session.prompt()),
            "n_predict": longest,
            "temperature": temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "samplers": ["top_k", "top_p", "min_p", "temperature"],
        }
        reply = client.post("/completion", json=body)
        reply.raise_for_status()
        timings = reply.json()["timings"]
        return TimedAnswer(
            name,
            temperature,
            prompt,
            max(0, timings["predicted_n"] - 1),
            timings["predicted_ms"] / 1000,
            timings.get("draft_n", 0),
            timings.get("draft_n_accepted", 0),
        )

    return answer


@contextmanager
def running(command: Sequence[str]) -> Iterator[str]:
    """Run a server on a free port, and yield its URL.

    Raises:
        LocalmtpError: the server does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    ends = monotonic() + _START_S
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _healthy(url):
            if process.poll() is not None or monotonic() > ends:
                raise LocalmtpError(f"{command[0]} does not start", hint=" ".join(command))
            sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def summary(answers: Sequence[TimedAnswer]) -> list[Summary]:
    """Return a summary for each configuration and temperature."""
    rows = []
    for temperature, name in dict.fromkeys((a.temperature, a.name) for a in answers):
        part = [a for a in answers if (a.temperature, a.name) == (temperature, name) and a.tokens]
        drafted = sum(a.drafted for a in part)
        rows.append(
            Summary(
                name,
                temperature,
                sum(a.tokens for a in part) / sum(a.seconds for a in part),
                tuple(quantiles([a.tokens / a.seconds for a in part] * 2, n=4)),
                sum(a.accepted for a in part) / drafted if drafted else None,
            )
        )
    return sorted(rows, key=lambda row: (row.temperature, row.name))


def markdown(rows: Sequence[Summary]) -> str:
    """Return a Markdown table, and the ratios of automatic pacing to the others."""
    lines = [
        "| temperature | | tokens/s | median (quartiles) of answers | accepted |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        low, middle, high = row.quartiles
        accepted = "" if row.acceptance is None else f"{row.acceptance:.2f}"
        spread = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        cells = (f"{row.temperature:g}", row.name, f"{row.tokens_per_s:.1f}", spread, accepted)
        lines.append(f"| {' | '.join(cells)} |")
    for temperature in dict.fromkeys(row.temperature for row in rows):
        speed = {r.name: r.tokens_per_s for r in rows if r.temperature == temperature}
        auto, none = speed["localmtp auto"], speed["localmtp 0"]
        fixed = max(s for w, s in speed.items() if w.startswith("localmtp") and w[-1].isdigit())
        lines.append(
            f"\nTemperature {temperature:g}: auto is {auto / fixed:.2f} of the best fixed length, "
            f"{auto / none:.2f} of none, {auto / speed[_DRAFTING]:.2f} of the server's drafting."
        )
    return "\n".join(lines)


def compare(arguments: argparse.Namespace) -> list[TimedAnswer]:
    """Answer all prompts in all configurations."""
    files = ModelFiles("pair", arguments.target, arguments.drafter, arguments.drafter.name)
    threads = str(arguments.threads)
    plain = [str(arguments.server), "-m", str(arguments.target), "-t", threads, "-np", "1"]
    plain += ["-c", str(arguments.ctx), "--no-webui"]
    drafting = [*plain, "-md", str(arguments.drafter), "-td", threads]
    drafting += ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(_SERVER_LENGTH)]
    options = LoadOptions(context=arguments.ctx, threads=arguments.threads)
    with ExitStack() as resources:
        pair = resources.enter_context(Pair.load(files.target, files.drafter, options))
        session = LocalSession(pair, files, Choices(min_p=0.0))
        answerers: dict[str, Answerer] = {}
        for length in _LENGTHS:
            name = "localmtp auto" if length is None else f"localmtp {length}"
            answerers[name] = local_answerer(name, length, session, arguments.tokens)
        for name, command in (("server 0", plain), (_DRAFTING, drafting)):
            url = resources.enter_context(running(command))
            answerers[name] = server_answerer(name, url, session, pair, arguments.tokens)
        known = pair.target.model.metadata.get("general.name", "")
        workloads = workloads_for(
            known if known == NANO else files.name, arguments.prompts, arguments.prompts_file
        )
        prompts = [prompt for listed in workloads.values() for prompt in listed]
        for answer in answerers.values():  # warm up
            answer(prompts[0], arguments.temperatures[0])
        rounds = product(range(arguments.repeats), arguments.temperatures, prompts)
        order, answers = list(answerers.values()), []
        for _, temperature, prompt in rounds:
            order.append(order.pop(0))
            answers += [answer(prompt, temperature) for answer in order]
    return answers


def main() -> None:
    """Compare as the command line says, and print a table."""
    parser = argparse.ArgumentParser(description="Compare with llama.cpp's server.")
    parser.add_argument("server", type=Path, help="llama-server")
    parser.add_argument("target", type=Path)
    parser.add_argument("drafter", type=Path)
    parser.add_argument("--prompts", type=int, default=2, help="prompts per workload [%(default)s]")
    parser.add_argument("--prompts-file", type=workloads_in, help="see `bench run`")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--tokens", type=int, default=200, help="maximum length of an answer [%(default)s]"
    )
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--ctx", type=int, default=2048)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--json", type=Path, help="write all answers and the table as JSON")
    arguments = parser.parse_args()
    answers = compare(arguments)
    rows = summary(answers)
    if arguments.json:
        found = {"rows": [*map(asdict, rows)], "answers": [*map(asdict, answers)]}
        arguments.json.write_text(json.dumps(found, indent=1), "utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
