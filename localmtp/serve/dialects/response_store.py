"""Responses that a later request can refer to by `previous_response_id`."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from localmtp.serve.dialects.reading import Json
from localmtp.serve.errors import APIError

_MAX_RESPONSES = 256
_MAX_SIZE = 32 << 20
"""Characters of all conversations, as JSON."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response, and the conversation up to its end."""

    response: Json
    items: Sequence[Json]
    size: int


class ResponseStore:
    """Keeps the latest responses in memory; used on the event loop only."""

    def __init__(self) -> None:
        self._stored: OrderedDict[str, StoredResponse] = OrderedDict()
        self._size = 0
        self._items: dict[str, Json] = {}
        """Items of the stored responses, by their ids."""

    def add(self, response: Json, items: Sequence[Json]) -> None:
        """Add a response; the oldest ones are discarded beyond the limits."""
        size = len(json.dumps(items)) + len(json.dumps(response))
        self._stored[response["id"]] = StoredResponse(response, items, size)
        self._size += size
        self._items |= {item["id"]: item for item in response["output"] if "id" in item}
        while self._stored and (len(self._stored) > _MAX_RESPONSES or self._size > _MAX_SIZE):
            _, oldest = self._stored.popitem(last=False)
            self._size -= oldest.size
            for item in oldest.response["output"]:
                self._items.pop(item.get("id"), None)

    def get(self, response_id: str) -> StoredResponse | None:
        """Look up a response."""
        return self._stored.get(response_id)

    def resolved(self, items: Sequence[Json]) -> list[Json]:
        """Replaces references by the items of stored responses.

        Raises:
            APIError: an item is not stored.
        """
        return [
            self._referred(item) if item.get("type") == "item_reference" else item for item in items
        ]

    def _referred(self, reference: Json) -> Json:
        identity = reference.get("id")
        item = self._items.get(identity) if isinstance(identity, str) else None
        if item is None:
            message = f"item {str(identity)[:100]!r} is not stored here; send the item itself"
            raise APIError(404, message, param="input")
        return item
