"""Reports of `bench` on standard output: tables, Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from localmtp.cli import output
from localmtp.cli.table import table

if TYPE_CHECKING:
    from localmtp.bench.report import Setup, Table
    from localmtp.cli.bench.options import ReportFlags
    from localmtp.engine.pair import Pair
    from localmtp.models import ModelFiles


def setup_of(files: ModelFiles, threads: int | None, pair: Pair) -> Setup:
    """Return the model and machine of a measurement; measures memory bandwidth for a second.

    Args:
        files: the pair.
        threads: as requested; None for all cores.
        pair: loaded from `files`.
    """
    from localmtp.bench.hardware import hardware
    from localmtp.bench.report import Setup
    from localmtp.hardware import cpu

    return Setup(
        model=files.name,
        drafter=files.drafter_name,
        cpu=cpu.processor(),
        threads=threads or cpu.cores(),
        devices=tuple(device.summary for device in pair.target.model.offload.devices),
        hardware=hardware(files, pair),
        device_sampling=pair.device_sampling.kinds if pair.device_sampling else (),
    )


def show(
    setup: Setup, report: Mapping[str, object], tables: Iterable[Table], flags: ReportFlags
) -> None:
    """Print a report in the requested form.

    Args:
        setup: model and machine of the measurement.
        report: printed with `--json`.
        tables: printed otherwise; computed before anything is printed.
        flags: the requested form.
    """
    from localmtp.bench.report import as_markdown, memory_line

    tables = list(tables)
    if flags.as_json:
        output.line(json.dumps(report, ensure_ascii=False))
    elif flags.markdown:
        output.line(as_markdown(setup, tables))
    else:
        for shown in tables:
            output.line(f"\n{shown.title}")
            table(shown.head, shown.rows)
        output.line(f"\n{memory_line(setup)}")
