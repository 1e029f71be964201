"""A parsed document against the schema: the typed document, or every problem in words that name the fix."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway.catalog.document import Document, walk
from gateway.catalog.entry import Name
from gateway.catalog.models import ModelEntry
from gateway.catalog.problems import WORDED, Path, Problem, hint, printable, shown
from gateway.catalog.schema import CatalogEntry

_WANTED: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "decimal_type": 'a decimal number in quotes, as in "1.25"',
    "decimal_parsing": 'a decimal number in quotes, as in "1.25"',
    "date_type": "a date, as in 2026-11-20",
    "date_parsing": "a date, as in 2026-11-20",
    "date_from_datetime_parsing": "a date, as in 2026-11-20",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}
_AT_ONCE = 50
_NAME_RULE = "letters, digits and . _ : + - only, beginning with a letter or digit"
_SENTENCE_END = re.compile(r"\. (?=[A-Z])")
_QUOTED = re.compile(r"'([^']*)'")
_SECRET_FIELDS = frozenset({"api_key"})


def validate(document: Document) -> tuple[CatalogEntry | None, list[Problem]]:
    """The typed document, or None and what is wrong with it."""
    with contextlib.suppress(ValidationError):
        return _by_pieces(document.data), []
    try:
        return CatalogEntry.model_validate_json(msgspec.json.encode(document.data)), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    explained = [(*_explain(document, detail), detail) for detail in details[:WORDED]]
    paths = [path for path, _, _ in explained]
    messages: dict[Path, list[str]] = {}
    for path, message, detail in explained:
        of_another_shape = detail["type"] in ("literal_error", *_WANTED) and isinstance(detail["input"], dict)
        if of_another_shape and any(other[: len(path)] == path != other for other in paths):
            continue  # an alternative that was not meant: what is wrong lies within the mapping
        known = messages.setdefault(path, [])
        if message not in known:
            known.append(message)
    problems = [document.problem(path, "; or ".join(said)) for path, said in messages.items()]
    if len(details) > WORDED:
        problems.append(Problem(0, "", f"has {len(details):,} problems; the first {WORDED:,} were looked at"))
    return None, problems


def _by_pieces(data: Mapping[str, Any]) -> CatalogEntry:
    """The typed document of good data, validated some models at a time, since no other thread runs meanwhile.

    Raises:
        ValidationError: something is wrong; only the document as a whole tells what.
    """
    models = data.get("models")
    if not isinstance(models, dict):
        return CatalogEntry.model_validate_json(msgspec.json.encode(data))
    catalog = CatalogEntry.model_validate_json(msgspec.json.encode({**data, "models": {}}))
    entries: dict[str, ModelEntry] = {}
    names = list(models)
    for start in range(0, len(names), _AT_ONCE):
        piece = {name: models[name] for name in names[start : start + _AT_ONCE]}
        entries |= _models().validate_json(msgspec.json.encode(piece))
    return catalog.model_copy(update={"models": entries})


@cache
def _models() -> TypeAdapter[dict[str, ModelEntry]]:
    return TypeAdapter(dict[Name, ModelEntry])


def _explain(document: Document, detail: ErrorDetails) -> tuple[Path, str]:
    kind, value = detail["type"], detail["input"]
    path = _path(document.data, detail["loc"])
    if kind == "extra_forbidden":
        return path, f"unknown key {shown(path[-1])}{hint(str(path[-1]), schema_fields(path[:-1]))}"
    if kind == "missing":
        name = str(detail["loc"][-1])
        return path, f"'{name}' is missing — add it: {schema_fields(path).get(name, '')}"
    hidden = bool(path) and path[-1] in _SECRET_FIELDS
    if kind == "value_error":
        said = str(detail["ctx"]["error"])
        return path, said if hidden or not isinstance(value, str) else f"{shown(value)} {said}"
    if hidden:
        return path, f"{_demand(kind, detail)}: a reference, env:NAME or file:/path (the value is not shown)"
    return path, f"{_demand(kind, detail)}, not {shown(value)}{_fix(kind, detail)}"


def _demand(kind: str, detail: ErrorDetails) -> str:
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}"
    if kind in ("enum", "literal_error"):
        return "must be one of the known values"
    if kind == "string_pattern_mismatch":
        named = detail["loc"][-1] == "[key]" or "0,127" in str(detail["ctx"]["pattern"])
        rule = _NAME_RULE if named else f"text that matches {detail['ctx']['pattern']}"
        return f"must be {rule}"
    text = detail["msg"]
    for prefix in ("Input should ", "Decimal input should ", "String should ", "List should ", "Value should "):
        text = text.removeprefix(prefix)
    return "must " + text[:1].lower() + text[1:]


def _fix(kind: str, detail: ErrorDetails) -> str:
    value = detail["input"]
    if kind in ("enum", "literal_error"):
        return hint(value if isinstance(value, str) else "", _QUOTED.findall(detail["ctx"]["expected"]))
    if kind == "string_type" and isinstance(value, bool | int | float):
        return " — put it in quotes"
    if kind in ("list_type", "tuple_type") and isinstance(value, str):
        return f" — write [{printable(value)}]"
    return ""


def _path(data: Any, location: tuple[str | int, ...]) -> Path:
    """Where in the document an error lies: pydantic's location less its own marks for keys and alternatives."""
    path: Path = ()
    for step in location:
        longer = (*path, step)
        if sum(1 for _ in walk(data, longer)) == len(longer):
            path = longer
    return path


def schema_fields(path: Path) -> Mapping[str, str]:
    """The keys that the schema knows at a path, with the first sentence of each description."""
    nodes = [json_schema()]
    for step in path:
        nodes = [below for node in nodes for below in _below(node, step)]
    found: dict[str, str] = {}
    for node in nodes:
        for name, field in node.get("properties", {}).items():
            found[name] = _SENTENCE_END.split(field["description"], maxsplit=1)[0].rstrip(".")
    return found


def _below(node: dict[str, Any], step: str | int) -> list[dict[str, Any]]:
    if isinstance(step, int):
        below = node.get("items")
    else:
        patterns = list(node.get("patternProperties", {}).values())
        below = node.get("properties", {}).get(step) or node.get("additionalProperties") or (patterns or [None])[0]
    return _alternatives(below) if isinstance(below, dict) else []


def _alternatives(node: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _alternatives(json_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    if "anyOf" in node:
        return [below for choice in node["anyOf"] for below in _alternatives(choice)]
    return [node]


@cache
def json_schema() -> dict[str, Any]:
    """The JSON Schema of the document, for editors and for our own hints."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **CatalogEntry.model_json_schema()}
