"""`localmtp convert`: Hugging Face checkpoints to quantized GGUF."""

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
from localmtp.cli.convert_progress import ProgressBar, print_scores, print_table, size_for_people
from localmtp.cli.table import table


class _TensorType(click.ParamType[tuple[str, str]]):
    """A regular expression on tensor names and the type for those that match."""

    name = "REGEX=TYPE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Both parts; the type is what comes after the last `=`."""
        pattern, _, kind = str(value).rpartition("=")
        if not (pattern and kind):
            self.fail(f"{value!r} is not REGEX=TYPE, such as 'ffn_down=Q6_K'", param, ctx)
        return pattern, kind


class _Size(click.ParamType[int]):
    """Bytes, with k, M or G for powers of a thousand."""

    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number of bytes."""
        if not (match := re.fullmatch(r"(\d+)([kKMG]?)", str(value))):
            self.fail(f"{value!r} is not a size, such as 45G", param, ctx)
        return int(match[1]) * {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}[match[2]]


@click.command("convert", short_help="Hugging Face checkpoints to GGUF.")
@click.argument("source")
@click.argument("drafter_source", required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where files go.")
@click.option(
    "--quant",
    "quants",
    metavar="TYPE",
    multiple=True,
    default=("Q4_K_M",),
    show_default=True,
    help="Quantization; may be repeated.",
)
@click.option(
    "--drafter-quant",
    "drafter_quants",
    metavar="TYPE",
    multiple=True,
    help="The same for DRAFTER_SOURCE; types that need a matrix are not for it.  [default: Q8_0]",
)
@click.option("--name", help="What to call the model.  [default: as SOURCE is called]")
@click.option(
    "--tensor-type",
    "overrides",
    type=_TensorType(),
    multiple=True,
    help="The type of single tensors of SOURCE; may be repeated, the first match decides.",
)
@click.option(
    "--imatrix",
    type=click.Path(path_type=Path),
    help="Importance matrix for SOURCE, from llama-imatrix; the smallest types need one.",
)
@click.option("--quantized-by", metavar="NAME", help="Written into the files.")
@click.option("--license", metavar="ID", help="The weights' licence.  [default: as SOURCE says]")
@click.option(
    "--mmproj",
    metavar="TYPE",
    multiple=True,
    help="Write SOURCE's towers for images and sound too, as F16, BF16 or F32.",
)
@click.option(
    "--part-size",
    type=_Size(),
    default=0,
    metavar="SIZE",
    help="Split models into files of at most this, such as 45G.",
)
@click.option("--report", is_flag=True, help="Measure what quantization costs; kept beside.")
@click.option(
    "--report-text",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure on this text.  [default: one that ships]",
)
@click.option("--merge", is_flag=True, help="SOURCE is the first part of a split model: join it.")
@click.option("--threads", type=click.IntRange(1), help="[default: as many as cores]")
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@click.option("--offline", is_flag=True, help="Never ask the network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def command(
    source: str,
    drafter_source: str | None,
    out: Path,
    drafter_quants: Sequence[str],
    as_json: bool,
    merge: bool,
    **flags: Any,
) -> None:
    """Convert SOURCE, a checkpoint directory or hub repository, and its drafter.

    Writes NAME-TYPE.gguf for a target, mtp-NAME-TYPE.gguf for a drafter, and
    mmproj-NAME-TYPE.gguf where asked for. Models are checked by running them; the files of a run
    get their names together.

    \b
    localmtp convert google/gemma-4-E4B-it google/gemma-4-E4B-it-assistant --out gguf
    localmtp convert ./my-finetune --quant Q4_K_M --quant BF16 --report --out gguf
    localmtp convert --merge model-Q8_0-00001-of-00003.gguf --out gguf
    """  # noqa: D301 - click looks for the control character
    from localmtp.convert import Options, convert

    # Gigabytes would stay behind: by itself a termination skips what `with` cleans up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if merge:
        if drafter_source is not None:
            raise click.UsageError("--merge joins one model; give its first part alone")
        _merge(Path(source), out, force=flags["force"], threads=flags["threads"], as_json=as_json)
        return
    if drafter_quants and drafter_source is None:
        raise click.UsageError(
            "--drafter-quant needs a DRAFTER_SOURCE; for a drafter given alone, use --quant"
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
        table(
            ("file", "size", "sha256"), [(str(file.path), size_for_people(file.size), file.sha256)]
        )
