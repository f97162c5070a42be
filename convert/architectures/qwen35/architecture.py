"""Qwen 3.5 and 3.6 behind the interface of architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gguf import GGUFWriter

from localmtp.convert.architectures.base import Architecture, HeadPart, ModelRole
from localmtp.convert.architectures.qwen35.config import (
    DENSE,
    MOE,
    Qwen35Config,
    read_config,
    require_one_head,
)
from localmtp.convert.architectures.qwen35.projector import Qwen35Projector
from localmtp.convert.architectures.qwen35.settings import write_settings
from localmtp.convert.architectures.qwen35.tensors import TensorNames
from localmtp.convert.architectures.qwen35.tokenizer import (
    Qwen35Tokenizer,
    write_placeholder_vocabulary,
)
from localmtp.convert.architectures.tensor_plan import TensorSlot
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.output.metadata import Provenance
from localmtp.errors import LocalmtpError

CLASSES = DENSE + MOE


def read(checkpoint: Checkpoint, hf_class: str, part: HeadPart) -> Qwen35:
    """Read a Qwen 3.5 checkpoint's configuration.

    Raises:
        LocalmtpError: a value is invalid, or there is no MTP head though one is needed.
    """
    config = read_config(checkpoint, hf_class)
    n_heads = config.heads_stated or _has_head(checkpoint)
    if part is HeadPart.ONLY_HEAD and not n_heads:
        raise LocalmtpError(
            f"{checkpoint.directory} has no MTP head", hint="omit --mtp to convert the model"
        )
    if part is HeadPart.WITHOUT_HEAD:
        n_heads = 0
    if n_heads and checkpoint.tensors:
        require_one_head(checkpoint, n_heads)
    return Qwen35(hf_class, config.vocab, config.hidden, part, n_heads, config)


def _has_head(checkpoint: Checkpoint) -> bool:
    return any(name.removeprefix("model.").startswith("mtp.") for name in checkpoint.tensors)


@dataclass(frozen=True, slots=True)
class Qwen35(Architecture):
    """A Qwen 3.5 with its MTP head, without it, or the head alone."""

    hf_class: str
    vocab: int
    hidden: int
    part: HeadPart
    n_heads: int
    """Number of MTP heads in the file."""
    config: Qwen35Config

    @property
    def role(self) -> ModelRole:
        """A target, unless only the head is written."""
        return ModelRole.HEAD if self.part is HeadPart.ONLY_HEAD else ModelRole.TARGET

    @property
    def has_head(self) -> bool:
        """Whether the MTP head is in the file, unless it is the only part of it."""
        return self.n_heads > 0 and self.part is HeadPart.ALL

    @property
    def gguf_name(self) -> str:
        """`qwen35` or `qwen35moe`."""
        return "qwen35moe" if self.hf_class in MOE else "qwen35"

    def slots(self, stored: Sequence[str] = ()) -> Iterator[TensorSlot]:
        """Yield the tensors of the part; experts are fused, or stored one by one."""
        names = TensorNames(self.config, frozenset(stored))
        yield from names.outer()
        if self.role is ModelRole.TARGET:
            yield from names.layers()
        if self.n_heads:
            yield from names.head()

    def leaves_out(self, name: str) -> bool:
        """Whether it is of the vision encoder, or of a part that is not written."""
        if name.startswith("layers."):
            return self.role is ModelRole.HEAD
        if name.startswith("mtp."):
            return not self.n_heads
        return name.startswith("visual.") or name.endswith("rotary_emb.inv_freq")

    def write_settings(self, writer: GGUFWriter) -> None:
        """Write the sizes from which libllama builds the model."""
        write_settings(writer, self.config, self.n_heads)

    def vocabulary(self, checkpoint: Checkpoint) -> Qwen35Tokenizer:
        """Read the tokenizer."""
        return Qwen35Tokenizer(checkpoint.directory, self.vocab)

    def write_placeholder_vocabulary(self, writer: GGUFWriter) -> None:
        """Write a vocabulary of the model's size."""
        write_placeholder_vocabulary(writer, self.vocab)

    def projector(self, checkpoint: Checkpoint, provenance: Provenance) -> Qwen35Projector:
        """Read the vision encoder."""
        return Qwen35Projector(checkpoint, self.hidden, self.config.epsilon, provenance)

    def require_drafter(self, drafter: Architecture, own: Checkpoint, other: Checkpoint) -> None:
        """Refuse every drafter: the MTP head is in the model's own checkpoint."""
        raise LocalmtpError(
            f"{own.directory} has its MTP head in its own checkpoint; {other.directory} is not "
            "needed",
            hint="give one checkpoint; --mtp and --no-mtp write head and model separately",
        )

    @property
    def pure_overrides(self) -> Sequence[tuple[str, str]]:
        """None: published files have libllama's types."""
        return ()
