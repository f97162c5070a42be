"""What the two processes say to each other: these, pickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from multiprocessing.reduction import register
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from localmtp.engine.events import Event, Finished, Generated, Piece, Prefilled
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.session import Choices, Message, Settings

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions


@dataclass(frozen=True, slots=True)
class Open:
    """The first request: find, download if need be, and load."""

    model: str | None
    drafter: str | None
    offline: bool
    prepare: Callable[[], tuple[Choices, LoadOptions]]
    """Over the model's own settings, and how it is put on the machine. Called where the model is,
    as it imports libllama; so it has to be a function of a module, or a `partial` of one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a conversation; one that ends with the model's words is gone on with."""

    number: int
    messages: tuple[Message, ...]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Complete:
    """Go on with a text as it is."""

    number: int
    text: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Change:
    """Other settings for the next answer."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Cancel:
    """End an answer after its current pass; the only request that does not wait its turn."""

    number: int


@dataclass(frozen=True, slots=True)
class Close:
    """Keep what was learned, and end."""


Request = Reply | Complete | Change | Cancel | Close


@dataclass(frozen=True, slots=True)
class Starting:
    """A model is looked for."""

    model: str


@dataclass(frozen=True, slots=True)
class Downloading:
    """How far all downloads are, in bytes."""

    file: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Loading:
    """How far a file is read into memory."""

    model: str
    part: float
    """0..1"""


Step = Starting | Downloading | Loading


@dataclass(frozen=True, slots=True)
class Status:
    """A session in numbers."""

    stats: Stats
    plain_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Opened:
    """What a session tells once, when its model is loaded."""

    name: str
    drafter_name: str
    settings: Settings
    device: str
    memory: Mapping[str, int]
    placement: str
    template: str
    """Source of the chat template; empty for a model that has none."""
    bos: str
    status: Status


@dataclass(frozen=True, slots=True)
class Begun:
    """An answer is about to be generated."""

    number: int
    dropped: tuple[int, ...]
    """Indices of the messages that the model is not given."""
    status: Status


@dataclass(frozen=True, slots=True)
class Passed:
    """What happened since the last one, of one pass or several."""

    number: int
    events: tuple[Event, ...]
    status: Status


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no session, or no answer, or no more of it."""

    number: int
    """0 for the session."""
    message: str
    hint: str


Report = Step | Status | Opened | Begun | Passed | Failed


def _pickle_by_fields(kind: type[Any]) -> None:
    """Pickle objects of a class as the call that makes them, whose arguments are their fields.

    The usual way for frozen classes with slots asks Python for every field of every object; on the
    thread that generates, that is time taken from the model.
    """
    values = attrgetter(*(field.name for field in fields(kind)))
    register(kind, lambda told: (kind, values(told)))


for _kind in (Piece, Generated, Prefilled, Finished, Stats, TimeSpent, Status, Passed):
    _pickle_by_fields(_kind)
