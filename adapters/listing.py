"""Model lists, read strictly: from one that is half understood, models would seem to have vanished."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from adapters.base import NOT_JSON
from adapters.events import unreadable

T = TypeVar("T")


def read_list(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A model list in its API's form.

    Raises:
        UpstreamError: the body is none.
    """
    try:
        return decoder.decode(body)
    except NOT_JSON:
        raise unreadable("The provider sent a model list that cannot be read.") from None


def refuse_part(more: object) -> None:
    """Raises UpstreamError where the provider says that there is `more`: all of a list is asked for at once."""
    if more:
        raise unreadable("The provider sent only a part of its model list.")
