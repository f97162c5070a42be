"""The interface of an architecture: what the converter must know about a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Protocol

from gguf import GGUFWriter

from localmtp.convert.architectures.tensor_plan import PlannedTensor, TensorSlot
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.output.metadata import Provenance
from localmtp.convert.projector import Projector
from localmtp.errors import LocalmtpError


class ModelRole(Enum):
    """Use of a model."""

    TARGET = "target"
    DRAFTER = "drafter"
    """A model of its own that drafts for a target."""
    HEAD = "head"
    """The MTP head of a target as a file of its own."""


class HeadPart(Enum):
    """Parts of a checkpoint with an MTP head that are written."""

    ALL = "all"
    """The model with its head."""
    ONLY_HEAD = "only head"
    WITHOUT_HEAD = "without head"


class Vocabulary(Protocol):
    """A checkpoint's tokenizer."""

    def write(self, writer: GGUFWriter) -> None:
        """Write `tokenizer.ggml.*`.

        Raises:
            LocalmtpError: the tokenizer's files are malformed.
        """


class Architecture(ABC):
    """The architecture of a checkpoint with its sizes."""

    hf_class: str
    """Class in transformers, from `architectures`."""
    vocab: int
    """Number of tokens."""
    hidden: int
    """Width of the residual stream."""

    @property
    @abstractmethod
    def role(self) -> ModelRole:
        """Use of the model."""

    @property
    def has_head(self) -> bool:
        """Whether the file of a target has an MTP head too."""
        return False

    @property
    @abstractmethod
    def gguf_name(self) -> str:
        """`general.architecture` of the GGUF file."""

    @abstractmethod
    def slots(self, stored: Sequence[str] = ()) -> Iterator[TensorSlot]:
        """Yield every tensor that the architecture has or may have.

        Args:
            stored: plain names of the checkpoint's tensors, for architectures that are stored in
                several layouts.
        """

    def computed_tensors(self) -> list[PlannedTensor]:
        """Return the tensors of the GGUF file that the checkpoint does not have."""
        return []

    @abstractmethod
    def leaves_out(self, name: str) -> bool:
        """Whether a tensor of the checkpoint, by its plain name, is not converted."""

    @abstractmethod
    def write_settings(self, writer: GGUFWriter) -> None:
        """Write the sizes from which libllama builds the model."""

    @abstractmethod
    def vocabulary(self, checkpoint: Checkpoint) -> Vocabulary:
        """Read the tokenizer.

        Raises:
            LocalmtpError: it is missing, malformed, or of another kind or size.
        """

    @abstractmethod
    def write_placeholder_vocabulary(self, writer: GGUFWriter) -> None:
        """Write a vocabulary of the model's size, so that logits have their real size."""

    def projector(self, checkpoint: Checkpoint, provenance: Provenance) -> Projector:
        """Read the encoders of images and audio.

        Raises:
            LocalmtpError: there are none, or they are malformed.
        """
        raise LocalmtpError(f"{checkpoint.directory} is a {self.hf_class}, which has no projector")

    @abstractmethod
    def require_drafter(self, drafter: Architecture, own: Checkpoint, other: Checkpoint) -> None:
        """Refuse a model that cannot draft for this one.

        Args:
            drafter: the other model.
            own: checkpoint of this model, for errors.
            other: checkpoint of the drafter, for errors.

        Raises:
            LocalmtpError: it cannot.
        """

    @property
    @abstractmethod
    def pure_overrides(self) -> Sequence[tuple[str, str]]:
        """Types by which published Q4_0 files of this kind differ from libllama's choice."""

    @property
    def without_matrix(self) -> str:
        """Hint where a type needs an importance matrix and none was given."""
        return "give one with --imatrix; llama-imatrix measures it on the BF16 file"
