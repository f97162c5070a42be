"""Tables in Markdown from the results of `gpu_check`; ready for docs/measured.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_AUTO = "auto"

Results = Mapping[str, Mapping[str, Any]]
"""By name of the check: `code`, and `json` where it printed an object."""


def report(results: Results) -> str:
    """Returns sections for what there is; checks that failed are named at the end.

    Args:
        results: of `gpu_check`, perhaps of an interrupted run.
    """
    sizes = {n: found for n, found in _found(results) if n.startswith("size_")}
    sections = [
        _title(results, sizes),
        _speeds(sizes),
        _rows(sizes),
        _host_time(sizes),
        _servers(sizes),
        _trained(_json(results, "trained")),
        _overhead(results),
        _equality(results),
        _failed(results),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _found(results: Results) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in results:
        if found := _json(results, name):
            yield name, found


def _json(results: Results, name: str) -> Mapping[str, Any]:
    found = results.get(name, {}).get("json")
    return found if isinstance(found, dict) else {}


def _title(results: Results, sizes: Results) -> list[str]:
    machine = _json(results, "doctor")
    devices = next((", ".join(size["devices"]) for size in sizes.values()), "") or ", ".join(
        str(device.get("description", "")) for device in machine.get("devices", [])
    )
    lines = [f"## {devices or 'No GPU'}", ""]
    facts = [str(machine.get("processor", "")), *map(str, machine.get("backends", []))]
    bandwidths = {size["memory"]["bandwidth"] for size in sizes.values() if size.get("memory")}
    if bandwidths:
        facts.append(f"bandwidth {max(bandwidths) / 1e9:.0f} GB/s, measured")
    return [*lines, f"{', '.join(filter(None, facts)) or 'An unknown machine'}."]


def _speeds(sizes: Results) -> list[str]:
    """Speeds at the published acceptance, averaged over its workloads by their time."""
    rows = []
    for size in sizes.values():
        for mode, found in size["modes"].items():
            speeds = _means(found["tokens_per_s"].values())
            fixed = {n: rate for n, rate in speeds.items() if n != _AUTO}
            best = max(fixed, key=lambda n: fixed[n])
            worst = min(
                by[_AUTO] / max(rate for n, rate in by.items() if n != _AUTO)
                for by in found["tokens_per_s"].values()
            )
            share = found["bandwidth_share"]
            rows.append(
                (
                    size["model"],
                    mode,
                    f"{speeds['0']:.1f}",
                    f"{share:.0%}" if share else "",
                    f"{speeds[best]:.1f} ({best})",
                    f"{speeds[_AUTO]:.1f}",
                    f"{speeds[_AUTO] / speeds['0']:.2f}",
                    f"{speeds[_AUTO] / speeds[best]:.2f}",
                    f"{worst:.2f}",
                    "yes" if bool(size["device_sampling"]) == (mode == "device") else "",
                )
            )
    head = (
        *("model", "tokens chosen on the", "none, tok/s", "bandwidth", "best fixed (length)"),
        *("auto", "auto/none", "auto/best", "lowest of a workload", "chosen by auto"),
    )
    about = "Expected from the cost of rounds, with random weights of the true shapes and the"
    return _section("Decode tok/s", head, rows, f"{about} published acceptance.")


def _means(workloads: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Returns the harmonic mean of each length: workloads of equal numbers of tokens."""
    listed = list(workloads)
    return {n: len(listed) / sum(1 / by[n] for by in listed) for n in listed[0]}


def _rows(sizes: Results) -> list[str]:
    """Milliseconds of passes by rows, and of draft steps."""
    rows = []
    for size in sizes.values():
        for mode, found in size["modes"].items():
            drafts = found["draft_s"]
            longest = len(drafts) - 1
            step = (drafts[longest] - drafts[1]) / (longest - 1) if longest > 1 else drafts[-1]
            cells = [f"{1e3 * s:.2f}" for s in found["verify_s"]]
            rows.append(
                (size["model"], mode, *cells, f"{1e3 * drafts[1]:.2f}", f"{1e3 * step:.2f}")
            )
    most = max((len(row) for row in rows), default=0) - 4
    head = ("model", "tokens chosen on the", *map(str, range(1, most + 1)), "first step", "next")
    return _section("Milliseconds of a pass by rows, and of draft steps", head, rows)


def _host_time(sizes: Results) -> list[str]:
    """Milliseconds of rounds outside drafting and verification."""
    rows = [
        (size["model"], mode, *(f"{1e3 * s:.3f}" for s in found["rest_s"]))
        for size in sizes.values()
        for mode, found in size["modes"].items()
    ]
    most = max((len(row) for row in rows), default=0) - 2
    head = ("model", "tokens chosen on the", *map(str, range(most)))
    return _section("Milliseconds of the host by draft length", head, rows)


def _overhead(results: Results) -> list[str]:
    """Lines of `localmtp.bench.lab.overhead`: a tiny pair with Gemma's vocabulary."""
    rows = []
    for mode in ("host", "device"):
        for line in str(results.get(f"overhead_{mode}", {}).get("output", "")).splitlines():
            kind, found, time = line.partition(":")
            if found and kind.startswith("temperature"):
                rows.append((mode, kind, time.strip()))
    head = ("tokens chosen on the", "sampling", "time")
    return _section("Time of a round outside libllama", head, rows)


def _servers(sizes: Results) -> list[str]:
    rows = []
    for size in sizes.values():
        for length, theirs in size.get("server", {}).items():
            for mode, found in size["modes"].items():
                ours = found["given"][length]
                cells = (f"{theirs:.1f}", f"{ours:.1f}", f"{ours / theirs:.2f}")
                rows.append((size["model"], "none" if length == "0" else length, mode, *cells))
    head = ("model", "drafts", "tokens chosen on the", "llama.cpp, tok/s", "localmtp", "ratio")
    about = "The same files, with the same random acceptance on both sides; greedy."
    return _section("llama.cpp's server", head, rows, about)


def _trained(found: Mapping[str, Any]) -> list[str]:
    rows = []
    for each in found.get("standings", []):
        accepted, tokens = each["acceptance_rate"], each["tokens_per_pass"]
        ratio = next(
            (
                f"{r['median']:.2f} ({r['q1']:.2f} to {r['q3']:.2f})"
                for r in found.get("ratios", [])
                if (r["to"], r["temperature"]) == (each["contestant"], each["temperature"])
            ),
            "",
        )
        rows.append(
            (
                f"{each['temperature']:g}",
                each["contestant"],
                f"{each['tokens_per_s']:.1f}",
                "" if accepted is None else f"{accepted:.0%}",
                "" if tokens is None else f"{tokens:.2f}",
                ratio,
            )
        )
    head = ("temperature", "engine", "tok/s", "acceptance", "tokens/pass", "auto by it (quartiles)")
    return _section(f"Trained pair: {found.get('model', '')}", head, rows)


def _equality(results: Results) -> list[str]:
    """Equality with the processor's tokens, and the results of tests and `verify`."""
    rows = []
    expected = _json(results, "run_processor").get("token_ids")
    for name in ("run_sampling_off", "run_sampling_on"):
        if (found := _json(results, name).get("token_ids")) is not None and expected:
            rows.append((name, "the processor's tokens" if found == expected else "differs"))
    for name in ("tests", "verify"):
        if name in results and "code" in results[name]:
            passed = {0: "passed", 124: "not finished"}.get(results[name]["code"], "failed")
            lines = str(results[name].get("output", "")).strip().splitlines()
            rows.append((name, f"{passed}: {lines[-1]}" if lines else passed))
    return _section("Equality", ("check", "result"), rows)


def _failed(results: Results) -> list[str]:
    rows = [
        (name, str(found.get("skipped") or f"exit code {found.get('code')}"))
        for name, found in results.items()
        if found.get("skipped") or found.get("code")
    ]
    return _section("Missing", ("check", "reason"), rows)


def _section(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], about: str = ""
) -> list[str]:
    if not rows:
        return []
    lines = [f"### {title}", "", *([about, ""] if about else [])]
    lines += [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    return [*lines, *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    import json
    import sys
    from pathlib import Path

    print(report(json.loads(Path(sys.argv[1]).read_text("utf-8"))), end="")
