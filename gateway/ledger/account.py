"""What all attempts of one caller at one deployment and price have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

SEPARATOR = "\x1f"
"""Between the parts of a roll-up cell's name."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Whose attempts they are, who answers them, and at which price. `account_of` makes it, once for many of them."""

    tenant: str
    key: str
    team: str
    tags: tuple[tuple[str, str], ...]
    alias: str
    tier: str | None
    model: str
    provider: str
    deployment: str
    price_id: str
    catalog: str
    sealed: bytes = field(init=False)
    """All of these as they stand in an envelope: JSON, with commas between them."""
    cell: str = field(init=False)
    """The name of the roll-up cell; its parts are those of `records.DIMENSIONS`."""
    tag_cells: tuple[str, ...] = field(init=False)
    """The names of the cells by tag."""

    def __post_init__(self) -> None:
        names = (self.key, self.tier or "", self.model, self.provider, self.deployment, self.price_id, self.team)
        cell = SEPARATOR.join(names)
        object.__setattr__(self, "cell", cell)
        tag_cells = [SEPARATOR.join((_plain(name), _plain(value), cell)) for name, value in self.tags]
        object.__setattr__(self, "tag_cells", tuple(tag_cells))
        whose = (self.tenant, self.key, self.team, self.tags, self.alias, self.tier)
        members = (*whose, self.model, self.provider, self.deployment, self.price_id, self.catalog)
        object.__setattr__(self, "sealed", _encode(members)[1:-1])


account_of = lru_cache(4096)(Account)
"""The account of these, in the order of its fields; made anew only where it has not been asked for of late."""


def whole(brief: bytes, sealed: bytes) -> bytes:
    """An envelope, or a line that begins with one, from the brief of its attempt and the text of its account.

    A brief (see `Attempt.seal()`) begins with the attempt's id, of which the request's is made, and its time: neither
    has a comma in it.
    """
    aid, at, rest = brief.split(b",", 2)
    return b'%b,"req_%b0",%b,%b,%b' % (aid, aid.strip(b'["')[:-1], at, sealed, rest)


def _plain(text: str) -> str:
    return text.replace(SEPARATOR, " ")
