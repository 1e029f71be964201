"""A provider's bill as a file: CSV with a header line, or one JSON object a line; pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import Any

import msgspec

from gateway.ledger.records import USAGE_FIELDS

NAMES = ("attempt_id", "provider_request_id", "provider", "model", "day")
"""What names a row: an attempt (`attempt_id`), or a request of that day, or a model's day."""
COST = "cost_usd"
_SUBJECTS = (("attempt_id",), ("provider_request_id", "day"), ("provider", "model", "day"))
"""What a row is for, by any of these."""
_SYNONYMS = {"client_request_id": "attempt_id", "x_client_request_id": "attempt_id", "date": "day"}
_KNOWN = frozenset((*NAMES, COST, *USAGE_FIELDS))


def read_bill(lines: Iterable[str], *, form: str) -> list[dict[str, Any]]:
    """The rows, as `POST /admin/api/reconcile/import` takes them. `form` is `csv` or `jsonl`.

    Raises:
        ValueError: a line cannot be read; the text names it.
    """
    rows = []
    for number, given in _csv(lines) if form == "csv" else _jsonl(lines):
        try:
            rows.append(_row(given))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return rows


def batches(rows: list[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of one attempt, or of a model's day, together; those of attempts first and in the order they began."""
    rows = sorted(rows, key=_subject)
    batch: list[dict[str, Any]] = []
    for _, group in groupby(rows, key=_subject):
        together = list(group)
        if batch and len(batch) + len(together) > most:
            yield batch
            batch = []
        batch += together
    if batch:
        yield batch


def _subject(row: Mapping[str, Any]) -> tuple[bool, str, str, str, str]:
    names = [str(row.get(name, "")) for name in NAMES]
    if names[0]:
        return (False, "", names[0], "", "")
    return (not names[1], names[4], names[1], names[2], names[3])


def _csv(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(lines, strict=True)
    try:
        if reader.fieldnames is None:
            raise ValueError("it is empty; a bill begins with the line of its columns' names")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num}: it has not as many fields as the header")
            yield reader.line_num, {name: text for name, text in row.items() if text != ""}
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None


def _jsonl(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number}: {error}") from None


def _row(given: Mapping[str, Any]) -> dict[str, Any]:
    named = {_SYNONYMS.get(n := name.strip().lower().replace("-", "_"), n): value for name, value in given.items()}
    if unknown := sorted(named.keys() - _KNOWN):
        raise ValueError(f"unknown column {unknown[0]!r}; there are {', '.join((*NAMES, COST, *USAGE_FIELDS))}")
    if COST not in named:
        raise ValueError(f"it has no {COST}")
    row: dict[str, Any] = {name: str(named[name]).strip() for name in NAMES if named.get(name) is not None}
    if not any(all(map(row.get, names)) for names in _SUBJECTS):
        raise ValueError(f"it needs {', or '.join(' and '.join(names) for names in _SUBJECTS)}")
    if row.get("day"):
        _check_day(row["day"])
    row[COST] = _money(named[COST])
    usage = {name: _count(name, named[name]) for name in USAGE_FIELDS if named.get(name) is not None}
    if usage:
        row["usage"] = usage
    return row


def _check_day(text: str) -> None:
    try:
        if text == f"{date.fromisoformat(text):%Y-%m-%d}":
            return
    except ValueError:
        pass
    raise ValueError(f"day must be like 2026-11-30, not {text[:40]!r}")


def _money(value: Any) -> str:
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{COST} must be US dollars such as 0.0123, not {str(value)[:40]!r}")
    return f"{amount:f}"


def _count(name: str, value: Any) -> int:
    text = str(value).strip()
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)
