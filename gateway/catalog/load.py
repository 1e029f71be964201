"""A catalog file as a snapshot: read, parsed, checked, compiled. Either all of it takes effect, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gateway.catalog.compile import compile_catalog
from gateway.catalog.document import MAX_BYTES, Document, parse_document
from gateway.catalog.learned import Learned
from gateway.catalog.problems import InvalidCatalog, Problem
from gateway.catalog.references import check_references
from gateway.catalog.schema import CatalogEntry
from gateway.catalog.snapshot import Snapshot
from gateway.catalog.validate import validate
from gateway.catalog.versions import version_of
from gateway.catalog.warnings import find_warnings

Parse = Callable[[bytes, str], Document]
"""As `parse_document`."""
_NOTHING_LEARNED = Learned()


def load_catalog(path: Path, env: Mapping[str, str], now: float) -> Snapshot:
    """The snapshot of a file. `env` resolves `env:` references; `now` (seconds since the epoch) only makes warnings.

    Raises:
        InvalidCatalog: every problem of the document, each with its line and fix.
    """
    return compile_text(read_catalog(path), str(path), env, now)


def read_catalog(path: Path) -> bytes:
    """The file's bytes, read no further than a catalog may be long.

    Raises:
        InvalidCatalog: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidCatalog(str(path), [Problem(0, "", f"cannot be read: {error.strerror}")]) from None


def compile_text(text: bytes, file: str, env: Mapping[str, str], now: float) -> Snapshot:
    """The snapshot of a document; `file` is the name that messages show.

    Raises:
        InvalidCatalog: every problem of the document, each with its line and fix.
    """
    return Checked(text, file).compile(env, now)


class Checked:
    """A document that was parsed and checked once, to be compiled whenever something around it changes."""

    def __init__(self, text: bytes, file: str, parse: Parse = parse_document) -> None:
        """Raises:
        InvalidCatalog: as `compile_text`.
        """
        self.text = text
        self.file = file
        self.document, self.catalog = check_text(text, file, parse)

    def compile(self, env: Mapping[str, str], now: float, learned: Learned = _NOTHING_LEARNED) -> Snapshot:
        """The snapshot in this environment, with what was learned laid over it.

        Raises:
            InvalidCatalog: as `compile_text`.
        """
        snapshot = compile_catalog(self.document, self.catalog, version_of(self.text), env, learned)
        return replace(snapshot, warnings=find_warnings(self.document, self.catalog, snapshot, now))


def check_text(text: bytes, file: str, parse: Parse = parse_document) -> tuple[Document, CatalogEntry]:
    """The document, parsed and checked, without looking at environment or secrets.

    Raises:
        InvalidCatalog: as `compile_text`.
    """
    document = parse(text, file)
    catalog, problems = validate(document)
    problems += check_references(document)
    if catalog is None or problems:
        raise InvalidCatalog(file, problems)
    return document, catalog
