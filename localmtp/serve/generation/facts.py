"""Facts about the served model's file, for clients that ask."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from localmtp.engine.pair import Pair
from localmtp.models import ModelFiles
from localmtp.models.naming.quant import quant_label
from localmtp.session.prompts import template_source


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a target."""

    size: int
    """Bytes of the target's weights."""
    modified: float
    """Time of the file, in seconds since 1970."""
    digest: str
    """64 hexadecimal digits that identify name, size and time of the file."""
    quant: str
    architecture: str
    embedding_length: int
    template: str
    """Source of the chat template; empty if there is none."""

    @classmethod
    def of(cls, pair: Pair, files: ModelFiles) -> ModelFacts:
        """Facts about a loaded pair."""
        status, model = files.target.stat(), pair.target.model
        named = f"{files.target.name} {status.st_size} {status.st_mtime_ns}"
        return cls(
            size=model.size,
            modified=status.st_mtime,
            digest=sha256(named.encode(errors="replace")).hexdigest(),
            quant=quant_label(files.target.name),
            architecture=model.architecture,
            embedding_length=model.n_embd,
            template=template_source(pair)[0],
        )
