"""Check of a projector before libmtmd loads it into this process.

libmtmd ends its process on tensors of a wrong shape, as libllama does; see `load_check`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from localmtp.atomic import atomic_write_text
from localmtp.engine.llama.vocabulary_file import VocabularyFile
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header, download_hint, read_header
from localmtp.models.load_check import record_of, require_intact

_POSITIONS = "v.position_embd.weight"
"""Table of positions, a row for each patch of an image's longer side."""

_STRETCHED = ("qwen3vl_merger",)
"""Types of encoders that stretch the table to the size of an image."""

_MERGED = 3
"""Patches per side of a token, `pooling_kernel_size`, unless a file says otherwise."""


def check_projector(
    projector: Path,
    target: Path,
    *,
    image_tokens: int,
    vocabulary: VocabularyFile | None = None,
) -> None:
    """Checks that libmtmd can load a projector and encode with it; a known file is not tried again.

    Args:
        projector: paired with the target by what their headers say.
        target: its target.
        image_tokens: most tokens of an image, which may all be in one row.
        vocabulary: loaded instead of the target's own.

    Raises:
        LocalmtpError: libmtmd would end the process, or cannot load it.
    """
    _require_positions(read_header(projector), str(projector), image_tokens)
    record = record_of(projector, target)
    if record.exists():
        return
    from localmtp.engine.trial import try_encoding

    try:
        try_encoding(projector, (target, vocabulary))
    except LocalmtpError:
        require_intact([projector], download_hint(projector))
        raise
    with suppress(OSError, LocalmtpError):
        record.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(record, "{}", durable=False)


def _require_positions(header: Header, name: str, image_tokens: int) -> None:
    """Requires a table of positions that reaches as far as the longest image.

    Raises:
        LocalmtpError: it does not, and libmtmd would end the process on that image.
    """
    table = next((t.shape for t in header.tensors if t.name == _POSITIONS), None)
    kind = header.setting("projector_type") or header.setting("vision.projector_type")
    if table is None or kind in _STRETCHED:
        return
    scale = header.number("vision.projector.scale_factor") or _MERGED
    unified = header.setting("vision.projector_type") == "gemma4uv"
    places = table[1] if len(table) > 1 else 0
    most = places if unified else places // scale
    if most < image_tokens:
        raise LocalmtpError(
            f"{name} has {places} image positions, too few for images of {image_tokens} tokens",
            hint=f"allow fewer: `--image-tokens {most}`" if most > 0 else "convert it again",
        )
