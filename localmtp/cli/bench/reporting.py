"""How `bench` says what it found: tables, Markdown or JSON, and the machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from localmtp.cli import output
from localmtp.cli.table import table

if TYPE_CHECKING:
    from localmtp.bench.report import Setting, Table
    from localmtp.models import ModelFiles


def setting(files: ModelFiles, threads: int | None) -> Setting:
    """What is measured and where; to be asked while the pair is loaded.

    Args:
        files: the pair.
        threads: as asked for; None for all.
    """
    from localmtp.bench.hardware import hardware
    from localmtp.bench.report import Setting
    from localmtp.engine.llama.ggml import devices
    from localmtp.hardware import machine

    return Setting(
        model=files.name,
        drafter=files.drafter_name,
        cpu=machine.processor(),
        threads=threads or machine.cores(),
        devices=tuple(device.description for device in devices()),
        hardware=hardware(files),
    )


def show(
    where: Setting, report: dict[str, object], tables: Iterable[Table], flags: dict[str, Any]
) -> None:
    """Print a report in the form that was asked for.

    Args:
        where: what was measured.
        report: for `--json`.
        tables: for people.
        flags: `as_json` and `markdown`.
    """
    from localmtp.bench.report import as_markdown, memory_line

    if flags["as_json"]:
        output.line(json.dumps(report, ensure_ascii=False))
    elif flags["markdown"]:
        output.line(as_markdown(where, tables))
    else:
        for shown in tables:
            output.line(f"\n{shown.title}")
            table(shown.head, shown.rows)
        output.line(f"\n{memory_line(where)}")
