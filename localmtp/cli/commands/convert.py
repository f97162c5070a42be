"""`localmtp convert`: convert Hugging Face checkpoints to quantized GGUF."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from localmtp.cli import output
from localmtp.cli.convert_progress import (
    ProgressBar,
    print_next_command,
    print_scores,
    print_table,
    readable_size,
)
from localmtp.cli.flags.ranges import WholeNumber
from localmtp.cli.table import table
from localmtp.limits import MAX_THREADS

_NOT_RUNNABLE = ("mtp-", "mmproj-")
"""Prefixes of drafters and projectors, which do not run alone."""


class _TensorType(click.ParamType[tuple[str, str]]):
    """A regular expression on tensor names, and the type of the tensors that match."""

    name = "REGEX=TYPE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the last `=`."""
        pattern, _, kind = str(value).rpartition("=")
        if not (pattern and kind):
            self.fail(f"{value!r} is not REGEX=TYPE, such as 'ffn_down=Q6_K'", param, ctx)
        return pattern, kind


class _Size(click.ParamType[int]):
    """A size in bytes, with k, M or G for powers of 1000."""

    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number of bytes."""
        if not (match := re.fullmatch(r"(\d{1,15})([kKMG]?)", str(value))):
            self.fail(f"{value!r} is not a size, such as 45G", param, ctx)
        return int(match[1]) * {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}[match[2]]


@click.command("convert", short_help="Convert Hugging Face checkpoints to GGUF.")
@click.argument("source")
@click.argument("drafter_source", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Directory for the GGUF files; created if missing.",
)
@click.option(
    "--quant",
    "quants",
    metavar="TYPE",
    multiple=True,
    default=("Q4_K_M",),
    show_default=True,
    help="Quantization of SOURCE, such as Q8_0 or BF16; repeatable.",
)
@click.option(
    "--drafter-quant",
    "drafter_quants",
    metavar="TYPE",
    multiple=True,
    help="Quantization of DRAFTER_SOURCE; repeatable.  [default: Q8_0]",
)
@click.option(
    "--name", metavar="NAME", help="Name of the model and its files.  [default: name of SOURCE]"
)
@click.option(
    "--tensor-type",
    "overrides",
    type=_TensorType(),
    multiple=True,
    help="Type of the tensors of SOURCE whose name matches; repeatable, the first match applies.",
)
@click.option(
    "--imatrix",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Importance matrix of SOURCE, from llama-imatrix; required by the smallest types.",
)
@click.option("--quantized-by", metavar="NAME", help="Author of the files, for their metadata.")
@click.option(
    "--license", metavar="ID", help="Licence of the weights.  [default: from SOURCE's model card]"
)
@click.option(
    "--mtp",
    is_flag=True,
    help="Write SOURCE's MTP head as a file of its own; with --no-mtp, model and head.",
)
@click.option("--no-mtp", is_flag=True, help="Leave the MTP head out of the model's file.")
@click.option(
    "--mmproj",
    metavar="TYPE",
    multiple=True,
    help="Also write SOURCE's multimodal projector, as F16, BF16 or F32; repeatable.",
)
@click.option(
    "--part-size",
    type=_Size(),
    default=0,
    metavar="SIZE",
    help="Maximum size of a file, such as 45G; larger models are split.",
)
@click.option(
    "--report", is_flag=True, help="Measure the quality of every file, and save NAME.report.json."
)
@click.option(
    "--report-text",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure on this text; implies --report.  [default: an embedded text]",
)
@click.option("--merge", is_flag=True, help="Join a split model; SOURCE is its first part.")
@click.option(
    "--threads",
    type=WholeNumber(1, MAX_THREADS),
    help="Number of compute threads.  [default: number of cores]",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("--offline", is_flag=True, help="Use the hub's cache only, no network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def command(
    source: str,
    drafter_source: str | None,
    out: Path,
    drafter_quants: Sequence[str],
    as_json: bool,
    merge: bool,
    **flags: Any,
) -> None:
    """Convert a checkpoint of Gemma 4 or Qwen 3.5, and its drafter, to quantized GGUF files.

    SOURCE and DRAFTER_SOURCE are directories with config.json, tokenizer and safetensors files, or
    hub repositories (USER/REPO), which are downloaded. Neither torch nor transformers is needed,
    and memory use does not depend on the size of the model.

    Writes NAME-TYPE.gguf for a target, mtp-NAME-TYPE.gguf for a drafter or separate MTP head, and
    mmproj-NAME-TYPE.gguf for a projector. libllama loads and runs every model before any file gets
    its final name. An interrupted run leaves no files; existing files are replaced only with
    --force.

    \b
        localmtp convert google/gemma-4-E4B-it google/gemma-4-E4B-it-assistant --out gguf
        localmtp convert Qwen/Qwen3.5-9B --no-mtp --mtp --out gguf
        localmtp convert ./my-finetune --quant Q4_K_M --quant BF16 --report --out gguf
        localmtp convert --merge model-Q8_0-00001-of-00003.gguf --out gguf
    """  # noqa: D301 - click looks for the control character
    from localmtp.convert import Options, convert

    # By default SIGTERM ends the process without leaving `with` blocks, which remove gigabytes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if merge:
        if drafter_source is not None:
            raise click.UsageError("--merge takes one argument: the first part of a split model")
        _merge(Path(source), out, force=flags["force"], threads=flags["threads"], as_json=as_json)
        return
    if drafter_quants and drafter_source is None and not (flags["mtp"] and flags["no_mtp"]):
        raise click.UsageError(
            "--drafter-quant requires a DRAFTER_SOURCE, or --mtp with --no-mtp; "
            "use --quant for a drafter without target"
        )
    flags["report"] |= flags["report_text"] is not None
    options = Options(drafter_quants=drafter_quants or ("Q8_0",), **flags)
    with closing(ProgressBar()) as progress:
        files = convert(
            source, out, drafter_source=drafter_source, options=options, progress=progress
        )
    if as_json:
        output.line(json.dumps({"files": [asdict(file) for file in files]}, default=str))
    else:
        print_table(files)
        if options.report:
            print_scores(files)
        if targets := [file for file in files if not (file.drafter or file.projector)]:
            print_next_command(targets[0].path)


def _merge(first: Path, out: Path, *, force: bool, threads: int | None, as_json: bool) -> None:
    from localmtp.convert import ConvertProgress
    from localmtp.convert.output.merge import merge
    from localmtp.hardware.cpu import cores

    with closing(ProgressBar()) as bar:
        file = merge(
            first,
            out,
            force=force,
            threads=threads or cores(),
            progress=lambda path, done, total: bar(ConvertProgress(path, done, total)),
        )
    if as_json:
        output.line(json.dumps(asdict(file), default=str))
    else:
        table(("file", "size", "sha256"), [(str(file.path), readable_size(file.size), file.sha256)])
        if not file.path.name.startswith(_NOT_RUNNABLE):
            print_next_command(file.path)
