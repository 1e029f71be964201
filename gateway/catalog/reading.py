"""A document parsed by a process of its own, since parsing a long one would keep this one's threads waiting.

The YAML scanner is Python: it works for a third of a second on 1,000 models, and while it runs in a thread of a busy
machine, the scheduler may take the processor from it in the middle of a step, and from every other thread with it.

What comes back are lines of JSON: the problems, else the data and then the lines of its keys, some at a time.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path as FilePath

import msgspec

from gateway.catalog.document import Document, parse_document
from gateway.catalog.problems import InvalidCatalog, Path, Problem
from gateway.log import get_logger

_PATIENCE_S = 60.0
SHORT_BYTES = 32 * 1024
"""Documents up to this length are parsed here: that takes hardly longer than starting a process."""
_AT_ONCE = 500
"""Lines that are taken in one step, during which no other thread runs."""

_problems = msgspec.json.Decoder(list[Problem])
_lines = msgspec.json.Decoder(list[tuple[tuple[str | int, ...], int]])
_log = get_logger("catalog")


def parse_elsewhere(text: bytes, file: str) -> Document:
    """As `parse_document`; blocks until it is done. Where no process is worth it or can be had, this one parses.

    Raises:
        InvalidCatalog: as `parse_document`.
    """
    if len(text) <= SHORT_BYTES:
        return parse_document(text, file)
    try:
        said = iter(_ask(text))
        problems = _problems.decode(next(said))
    except (OSError, subprocess.SubprocessError, StopIteration, msgspec.DecodeError) as error:
        _log.warning("catalog_parsed_here", error=type(error).__name__)
        return parse_document(text, file)
    if problems:
        raise InvalidCatalog(file, problems)
    data = msgspec.json.decode(next(said))
    lines: dict[Path, int] = {}
    for some in said:
        lines.update(_lines.decode(some))
    return Document(file, data, lines)


def _ask(text: bytes) -> list[bytes]:
    here = os.pathsep.join(str(FilePath(folder).absolute()) for folder in sys.path)
    done = subprocess.run(  # noqa: S603  # this interpreter and our own module
        [sys.executable, "-P", "-m", __name__],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": here},
        timeout=_PATIENCE_S,
        check=True,
    )
    return done.stdout.splitlines()


def _answer(text: bytes) -> Iterator[bytes]:
    try:
        document = parse_document(text, "")
    except InvalidCatalog as invalid:
        yield msgspec.json.encode(invalid.problems)
        return
    yield b"[]"
    yield msgspec.json.encode(document.data)
    rows = iter(document.lines.items())
    while some := list(islice(rows, _AT_ONCE)):
        yield msgspec.json.encode(some)


if __name__ == "__main__":
    gc.disable()  # it lives for a second, and makes no cycles
    sys.stdout.buffer.write(b"\n".join(_answer(sys.stdin.buffer.read())))
