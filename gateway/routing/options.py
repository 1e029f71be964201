"""What a caller asks of the gateway itself: the body's `gateway` object, or `x-gateway-*` headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.errors import CallerError, bad_request
from gateway.money import NANO_PER_USD
from gateway.types import Capability, Options, mask_of

_PREFIX = "x-gateway-"
_MOST_USD = 9_000_000
"""Larger caps mean nothing and would leave the range in which every store keeps integers exactly."""
_LEAST_USD = Decimal(1) / NANO_PER_USD
_NO_OPTIONS = Options()
_FIELD_OF_PATH = re.compile(r"\$\.(\w+)")
_Name = Annotated[str, Meta(min_length=1, max_length=128)]


class _Given(Struct, forbid_unknown_fields=True):
    """The options as callers write them."""

    require: list[Capability] = []
    prefer_provider: _Name | None = None
    policy: _Name | None = None
    preset: _Name | None = None
    max_cost_usd: str | int | float | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    tags: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=256)]],
        Meta(max_length=16),
    ] = {}
    session: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    explain: bool = False
    show_cost: bool = False


OPTION_NAMES = frozenset(_Given.__struct_fields__)


def parse_options(gateway: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Options:
    """The options of a request; where body and header name the same one, the body counts.

    `headers` has lower-case names; only those that begin with `x-gateway-` are looked at. There, lists are written
    with commas (`require: function_calling,logprobs`), tags as `team=search,env=prod`.

    Raises:
        CallerError: an unknown option or a value out of range, with its place as `param`.
    """
    given = _from_headers(headers) if headers else {}
    if gateway is None and not given:
        return _NO_OPTIONS
    where = dict.fromkeys(given, _PREFIX) | dict.fromkeys(gateway or (), "gateway.")
    merged = {**given, **(gateway or {})}
    for name in merged:
        if name not in OPTION_NAMES:
            place = _place(where, name)
            raise bad_request(f"Unknown option '{place}'. Options: {', '.join(sorted(OPTION_NAMES))}.", place)
    try:
        options = msgspec.convert(merged, _Given)
    except msgspec.ValidationError as error:
        raise _misplaced(str(error), where) from None
    for name, value in options.tags.items():
        if not (name + value).isprintable():
            raise bad_request("Tags must be printable text.", _place(where, "tags"))
    return Options(
        require=mask_of(options.require),
        prefer_provider=options.prefer_provider,
        policy=options.policy,
        preset=options.preset,
        max_cost_nano=_nano(options.max_cost_usd, _place(where, "max_cost_usd")),
        deadline_s=options.deadline_s,
        tags=tuple(options.tags.items()),
        session=options.session,
        explain=options.explain,
        show_cost=options.show_cost,
    )


def _from_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, text in headers.items():
        if name.startswith(_PREFIX):
            field = name[len(_PREFIX) :].replace("-", "_")
            given[field] = _READERS.get(field, str.strip)(text)
    return given


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _tags(text: str) -> dict[str, str]:
    """Raises:
    CallerError: one of them has no value, which would be booked under a name that nobody meant.
    """
    tags = {}
    for item in _list(text):
        name, equals, value = item.partition("=")
        if not equals:
            place = f"{_PREFIX}tags"
            message = f"Invalid value for '{place}': '{item[:64]}' is no tag; write NAME=VALUE, several with commas."
            raise bad_request(message, place)
        tags[name.strip()] = value.strip()
    return tags


def _number(text: str) -> float | str:
    """A number, or the text itself, which validation then refuses by name."""
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _flag(text: str) -> bool | str:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)


_READERS = {"require": _list, "tags": _tags, "deadline_s": _number, "explain": _flag, "show_cost": _flag}


def _nano(usd: str | float | None, place: str) -> int | None:
    if usd is None:
        return None
    try:
        amount = Decimal(str(usd))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not _LEAST_USD <= amount <= _MOST_USD:
        span = f'give US dollars above 0, such as "0.05", from {_LEAST_USD:f} to {_MOST_USD:,}'
        raise bad_request(f"Invalid value for '{place}': {span}.", place)
    return int(amount * NANO_PER_USD)


def _misplaced(error: str, where: Mapping[str, str]) -> CallerError:
    """msgspec's `Expected X, got Y - at `$.tags[...]`` as ours, at the place where the caller wrote it."""
    text, _, path = error.partition(" - at ")
    field = _FIELD_OF_PATH.search(path)
    place = _place(where, field[1]) if field else "gateway"
    if text.startswith("Invalid enum value"):  # only capabilities are of an enum
        text += f"; known are {', '.join(sorted(Capability))}"
    return bad_request(f"Invalid value for '{place}': {text}.", place)


def _place(where: Mapping[str, str], field: str) -> str:
    prefix = where.get(field, "gateway.")
    return prefix + (field.replace("_", "-") if prefix == _PREFIX else field)
