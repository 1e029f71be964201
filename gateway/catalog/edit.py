"""Changing the catalog document as a careful person would: only the entries concerned, every comment kept.

Only the text of an entry that changes is taken apart and written anew; the rest stays byte for byte. What comes out is
read again and must say exactly what was meant, so an edit that goes wrong is refused and never written.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from gateway.catalog.document import Document, parse_document, walk
from gateway.catalog.problems import Path, written
from gateway.errors import CatalogError

_WIDTH = 110
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NUMBER = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?")
_ANY_LINE_END = re.compile(r"(?<=\n)")


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a value; a list is made one longer by the index after its last. Mappings on the way are made."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Cut:
    """Takes a key away; it need not be there."""

    path: Path


Change = Put | Cut


def edit(text: bytes, changes: Sequence[Change], file: str = "catalog.yaml") -> bytes:
    """The document with the changes made in their order; comments, order and style of the rest are kept.

    Raises:
        InvalidCatalog: the document is not one.
        CatalogError: a path does not lead into the document, or the change cannot be written safely.
    """
    decoded = text.decode("utf-8-sig")
    for change in changes:
        document = parse_document(decoded.encode(), file)
        wanted = copy.deepcopy(document.data)
        _apply(wanted, change, plain=True)
        if wanted == document.data:
            continue
        decoded = _written(decoded, document, change)
        if parse_document(decoded.encode(), file).data != wanted:
            raise CatalogError(f"{written(change.path)} cannot be changed safely here; edit {file} by hand")
    return decoded.encode()


def _written(text: str, document: Document, change: Change) -> str:
    """The text with the change, made within the fewest lines that can be taken out and put back."""
    lines, path = _ANY_LINE_END.split(text), change.path
    if isinstance(change, Put) and path not in document.lines:
        inserted = _inserted(lines, document, change)
        if inserted is not None:
            return inserted
    for depth in range(len(path), 0, -1):
        extent = _extent(lines, document, path[:depth])
        if extent is not None:
            start, end = extent
            alone = depth == len(path) and isinstance(change, Cut)
            amended = "" if alone else _amended("".join(lines[start:end]), change, depth)
            return "".join([*lines[:start], amended, *lines[end:]])
    return _round_trip(text, change)


def _extent(lines: list[str], document: Document, path: Path) -> tuple[int, int] | None:
    """First line and the line after the last, from 0, of what stands at a path; None unless it has them to itself."""
    start = document.lines.get(path, 0) - 1
    if start < 0:
        return None
    key = path[-1]
    head = r"\s*- " if isinstance(key, int) else rf"\s*[\"']?{re.escape(key)}[\"']?\s*:(\s|$)"
    if not re.match(head, lines[start]):
        return None
    later = [line - 1 for other, line in document.lines.items() if len(other) <= len(path) and line - 1 > start]
    end = min(later, default=len(lines))
    indent = _indent(lines[start])
    while end > start + 1 and _beside(lines[end - 1], indent):
        end -= 1
    return start, end


def _beside(line: str, indent: int) -> bool:
    """Whether a line after something is none of it: blank, or a comment that stands no deeper than its first line."""
    bare = line.strip()
    return not bare or (bare.startswith("#") and _indent(line) <= indent)


def _amended(chunk: str, change: Change, depth: int) -> str:
    """The lines of what stands at the first `depth` steps of the change's path, with the change made in them."""
    indent = _indent(chunk)
    dedented = "".join(line[indent:] if line[:indent].isspace() else line for line in _ANY_LINE_END.split(chunk))
    first = change.path[depth - 1]
    path = (0 if isinstance(first, int) else first, *change.path[depth:])
    text = _round_trip(dedented, Put(path, change.value) if isinstance(change, Put) else Cut(path))
    return _indented(_flush(text) if isinstance(first, int) else text, indent)


def _inserted(lines: list[str], document: Document, change: Put) -> str | None:
    """The text with a new key or item: items and entries go to the end, fields below the plain ones at the top.

    None where there are no lines beside which it could stand.
    """
    *parent, key = change.path
    beside = [path for path in document.lines if len(path) == len(change.path) and path[:-1] == tuple(parent)]
    extents = {path: _extent(lines, document, path) for path in beside}
    if not beside or None in extents.values():
        return None
    after = beside[-1]
    if isinstance(key, str) and len(change.path) > 2:
        values = [*walk(document.data, tuple(parent))][-1]
        plain = [path for path in beside if not isinstance(values[path[-1]], dict | list)]
        leading = [path for path, other in zip(beside, plain, strict=False) if path == other]
        if not leading:
            return None
        after = leading[-1]
    start, end = extents[after] or (0, 0)
    out = StringIO()
    value = _styled(change.value, nested=len(change.path) > 2)
    _yaml().dump([value] if isinstance(key, int) else CommentedMap({key: value}), out)
    made = _flush(out.getvalue()) if isinstance(key, int) else out.getvalue()
    gap = "\n" if len(change.path) == 2 and end - start > 1 else ""
    before = "".join(lines[:end])
    tail = "" if before.endswith("\n") else "\n"
    return before + tail + gap + _indented(made, _indent(lines[start])) + "".join(lines[end:])


def _flush(text: str) -> str:
    """A list that was written alone, without the indentation that it has below a key."""
    return "".join(line.removeprefix("  ") for line in _ANY_LINE_END.split(text))


def _indented(text: str, indent: int) -> str:
    return "".join(" " * indent + line if line.strip() else line for line in _ANY_LINE_END.split(text))


def _round_trip(text: str, change: Change) -> str:
    yaml = _yaml()
    root = yaml.load(text)
    _apply(root, change, plain=False)
    out = StringIO()
    yaml.dump(root, out)
    return out.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _apply(root: Any, change: Change, *, plain: bool) -> None:
    """Makes the change in a tree of plain values, or of the round-trip parser's."""
    *way, last = change.path
    node: Any = root
    for step in way:
        if isinstance(node, dict) and step not in node:
            if isinstance(change, Cut):
                return
            node[step] = {} if plain else CommentedMap()
        node = _below(node, step, change.path)
    if isinstance(change, Cut):
        if isinstance(node, dict):
            node.pop(last, None)
        return
    value = change.value if plain else _styled(change.value)
    if isinstance(node, list) and last == len(node):
        node.append(value)
    elif (isinstance(node, dict) and isinstance(last, str)) or (isinstance(node, list) and last in range(len(node))):
        node[last] = value  # type: ignore[index]  # checked above, for the list by its length
    else:
        raise CatalogError(f"{written(change.path)} does not lead into the catalog")


def _below(node: Any, step: Any, path: Path) -> Any:
    try:
        return node[step]
    except (KeyError, IndexError, TypeError):
        raise CatalogError(f"{written(path)} does not lead into the catalog") from None


def _styled(value: Any, *, nested: bool = True) -> Any:
    """A value in the document's style: short lists and flat mappings on one line, amounts in quotes, days without."""
    if isinstance(value, dict):
        mapping = CommentedMap({key: _styled(inner) for key, inner in value.items()})
        if nested and not any(isinstance(inner, dict | list) for inner in value.values()):
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq([_styled(inner) for inner in value])
        if not any(isinstance(inner, dict | list) for inner in value):
            sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, str):
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
        if _NUMBER.fullmatch(value):
            return DoubleQuotedScalarString(value)
    return value


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
