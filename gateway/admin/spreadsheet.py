"""CSV that spreadsheets show and never run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Source: OWASP ASVS 5.0, requirement 1.2.10, https://github.com/OWASP/ASVS (read 2026-11-21); line ends, and the same
# signs in full width, are added.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\0", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_WITHIN = re.compile("(?<=[;\t\r\n|])(?= *[=+@\uff1d\uff0b\uff0d\uff20-])")
"""Where a cell would begin for a spreadsheet that parts them at another sign than the comma, as many do by country."""


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
    text = _WITHIN.sub("'", "" if cell is None else str(cell))
    return "'" + text if text.lstrip(" ").startswith(_FORMULA_STARTS) else text
