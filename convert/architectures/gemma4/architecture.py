"""Gemma 4 behind the interface of architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gguf import GGUFWriter

from localmtp.convert.architectures.base import Architecture, HeadPart, ModelRole
from localmtp.convert.architectures.gemma4.config import (
    DRAFTERS,
    TARGETS,
    Gemma4Config,
    read_config,
)
from localmtp.convert.architectures.gemma4.projector import Gemma4Projector
from localmtp.convert.architectures.gemma4.settings import write_settings
from localmtp.convert.architectures.gemma4.tensors import SKIPPED, rope_factors, slots
from localmtp.convert.architectures.gemma4.tokenizer import (
    Gemma4Tokenizer,
    write_placeholder_vocabulary,
)
from localmtp.convert.architectures.tensor_plan import PlannedTensor, TensorSlot
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.rows import ComputedRows
from localmtp.convert.output.metadata import Provenance
from localmtp.errors import LocalmtpError

CLASSES = TARGETS + DRAFTERS


def read(checkpoint: Checkpoint, hf_class: str, part: HeadPart) -> Gemma4:
    """Read a Gemma 4 checkpoint's configuration.

    Raises:
        LocalmtpError: a value is invalid, or a part of a head is asked for.
    """
    if part is not HeadPart.ALL:
        raise LocalmtpError(
            f"{checkpoint.directory} is a {hf_class}, which has no MTP head to write or leave out",
            hint="Gemma 4's drafters are checkpoints of their own: omit --mtp and --no-mtp",
        )
    config = read_config(checkpoint, hf_class)
    return Gemma4(hf_class, config.vocab, config.hidden, config)


@dataclass(frozen=True, slots=True)
class Gemma4(Architecture):
    """A Gemma 4 target or drafter."""

    hf_class: str
    vocab: int
    hidden: int
    config: Gemma4Config

    @property
    def role(self) -> ModelRole:
        """A target or drafter."""
        return ModelRole.TARGET if self.config.backbone is None else ModelRole.DRAFTER

    @property
    def gguf_name(self) -> str:
        """`gemma4` or `gemma4-assistant`."""
        return "gemma4" if self.role is ModelRole.TARGET else "gemma4-assistant"

    def slots(self, stored: Sequence[str] = ()) -> Iterator[TensorSlot]:
        """Yield every tensor; there is one layout."""
        return slots(self.config)

    def computed_tensors(self) -> list[PlannedTensor]:
        """Return the factors of the full-attention layers' rope."""
        shape = (self.config.global_head_dim // 2,)
        return [PlannedTensor("rope_freqs.weight", shape, ComputedRows(rope_factors(self.config)))]

    def leaves_out(self, name: str) -> bool:
        """Whether it is an encoder, a buffer, the centroid head, or a copy of the embeddings."""
        tied = self.config.tied or self.role is ModelRole.DRAFTER
        return SKIPPED.search(name) is not None or (tied and name == "lm_head.weight")

    def write_settings(self, writer: GGUFWriter) -> None:
        """Write the sizes from which libllama builds the model."""
        write_settings(writer, self.config)

    def vocabulary(self, checkpoint: Checkpoint) -> Gemma4Tokenizer:
        """Read the tokenizer, and the tokens that a target must never generate."""
        suppressed = None
        match checkpoint.generation_config.get("suppress_tokens"):
            case [*ids] if self.role is ModelRole.TARGET and all(
                type(i) is int and i >= 0 for i in ids
            ):
                suppressed = ids
        return Gemma4Tokenizer(checkpoint.directory, self.vocab, suppressed)

    def write_placeholder_vocabulary(self, writer: GGUFWriter) -> None:
        """Write a vocabulary of the model's size."""
        write_placeholder_vocabulary(writer, self.vocab)

    def projector(self, checkpoint: Checkpoint, provenance: Provenance) -> Gemma4Projector:
        """Read the encoders of images and audio."""
        return Gemma4Projector(checkpoint, self.hidden, provenance)

    def require_drafter(self, drafter: Architecture, own: Checkpoint, other: Checkpoint) -> None:
        """Refuse a drafter whose layers cannot read this model's keys and values."""
        if not isinstance(drafter, Gemma4) or drafter.role is ModelRole.TARGET:
            raise LocalmtpError(
                f"{other.directory} is a target, not a drafter",
                hint="Gemma 4's drafters are the repositories that end in -assistant",
            )
        if self.role is ModelRole.DRAFTER:
            raise LocalmtpError(
                f"{own.directory} is a drafter, not a target",
                hint="give the target first and its drafter second",
            )
        for what, theirs, ours in _shared_sizes(self.config, drafter.config):
            if theirs != ours:
                raise LocalmtpError(
                    f"{other.directory} is the drafter of another target: its {what} is {ours}, "
                    f"{own.directory} has {theirs}"
                )

    @property
    def pure_overrides(self) -> Sequence[tuple[str, str]]:
        """Published Q4_0 drafters have a Q4_0 output head, as their sizes show."""
        return (("token_embd", "Q4_0"),) if self.role is ModelRole.DRAFTER else ()

    @property
    def without_matrix(self) -> str:
        """Hint where a type needs an importance matrix and none was given."""
        if self.role is ModelRole.DRAFTER:
            return "llama-imatrix cannot run drafters; Q8_0, Q4_0 and IQ4_XS need no matrix"
        return "give one with --imatrix; llama-imatrix measures it on the BF16 file"


def _shared_sizes(
    model: Gemma4Config, drafter: Gemma4Config
) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield the sizes that must agree: name, the target's, the drafter's."""
    last = model.layers - 1, drafter.layers - 1
    yield "hidden size", model.hidden, drafter.backbone
    yield "vocabulary", model.vocab, drafter.vocab
    yield "sliding window", model.window, drafter.window
    yield "head size", model.head_dim, drafter.head_dim
    yield "full-attention head size", model.global_head_dim, drafter.global_head_dim
    yield "number of key-value heads", model.kv_heads, drafter.kv_heads
    yield (
        "number of full-attention key-value heads",
        model.kv_heads_at(last[0]),
        drafter.kv_heads_at(last[1]),
    )
