"""CSV that spreadsheets show and never run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Source: OWASP ASVS 5.0, requirement 1.2.10, https://github.com/OWASP/ASVS (read 2026-11-21); line ends added.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\0", "\r", "\n")


def csv_of(columns: Sequence[str], numbers: frozenset[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV (RFC 4180, UTF-8). What stands in other columns than `numbers` is text, made harmless where a
    spreadsheet would read it as a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_harmless(name) for name in columns])
    for row in rows:
        writer.writerow([row[name] if name in numbers else _harmless(row[name]) for name in columns])
    return out.getvalue().encode()


def _harmless(cell: Any) -> str:
    text = "" if cell is None else str(cell)
    return "'" + text if text.startswith(_FORMULA_STARTS) else text
