"""Messages between the chat and the process with the model, sent as pickles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from multiprocessing.reduction import register
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from localmtp.engine.events import Event, Finished, Generated, Prefilled
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.media import Media
from localmtp.session import Choices, Message, Settings
from localmtp.session.tools import Function

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """The first request: resolve a model, download what is missing, load it."""

    model: str | None
    """Name or path; None for the default model."""
    drafter: str | None
    offline: bool
    prepare: Callable[[], tuple[Choices, LoadOptions]]
    """Returns the options of the session. Called in the child, because it imports libllama; must
    be picklable: a function of a module, or a `partial` of one."""
    projector: str | None = None
    """A path, `none`, or None for the model's own."""


class MediaName(NamedTuple):
    """Media that the child has."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class StoreMedia:
    """Retain the bytes of media: requests repeat the whole conversation."""

    media: Media


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """Answer a conversation; a last message of the model is continued."""

    number: int
    messages: tuple[Message, ...]
    """Without their media."""
    media: tuple[tuple[MediaName, ...], ...]
    """Media of each message; their bytes were sent before, with `StoreMedia`."""
    settings: Settings
    tools: tuple[Function, ...] = ()
    """Functions that the model may call."""


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """Continue a raw text."""

    number: int
    text: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class MeasureMedia:
    """Count the tokens of an image or sound; not queued, so that answers do not delay it."""

    number: int
    media: Media


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """Replace the settings of the next answer."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Cancel:
    """End an answer after its current pass; not queued."""

    number: int


@dataclass(frozen=True, slots=True)
class Close:
    """Save the pacing data and exit."""


Request = (
    ReplyRequest | CompleteRequest | StoreMedia | MeasureMedia | UpdateSettings | Cancel | Close
)


@dataclass(frozen=True, slots=True)
class Resolving:
    """The files of a model are being looked up."""

    model: str


@dataclass(frozen=True, slots=True)
class Downloading:
    """Progress of all downloads together, in bytes."""

    file: str
    """The current one."""
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of loading one file."""

    model: str
    part: float
    """0..1"""


OpenStep = Resolving | Downloading | Loading


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """Numbers of a session."""

    stats: Stats
    plain_tokens_per_s: float
    warnings: tuple[str, ...] = ()
    """All so far, see `Session.warnings`."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Description of a session, sent once when its model is loaded."""

    name: str
    drafter_name: str
    settings: Settings
    device: str
    memory: Mapping[str, int]
    placement: str
    template: str
    """Source of the chat template; empty if the model has none."""
    special_tokens: Mapping[str, str]
    """Texts of `bos` and `eos`."""
    status: SessionStatus


@dataclass(frozen=True, slots=True)
class AnswerStarted:
    """Generation is about to start."""

    number: int
    dropped: tuple[int, ...]
    """Indices of messages that are left out of the prompt."""
    status: SessionStatus


@dataclass(frozen=True, slots=True)
class AnswerEvents:
    """Events since the last message, of one or several passes."""

    number: int
    events: tuple[Event, ...]
    status: SessionStatus


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request failed; an answer ends here."""

    number: int
    """0 if the session could not be opened."""
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class MediaMeasured:
    """The answer to `MeasureMedia`."""

    number: int
    tokens: int
    failure: RequestFailed | None = None
    """The reason why it has no tokens."""


Response = (
    OpenStep
    | SessionStatus
    | SessionOpened
    | AnswerStarted
    | AnswerEvents
    | MediaMeasured
    | RequestFailed
)


def _pickle_by_fields(kind: type[Any]) -> None:
    """Pickles objects of a class as a constructor call with their fields.

    The default for frozen dataclasses with slots looks up every field in Python, on the thread
    that generates.
    """
    values = attrgetter(*(field.name for field in fields(kind)))
    register(kind, lambda message: (kind, values(message)))


for _kind in (
    Generated,
    Prefilled,
    Finished,
    Stats,
    TimeSpent,
    SessionStatus,
    AnswerEvents,
):
    _pickle_by_fields(_kind)
