"""A JSON Schema as Anthropic's structured outputs and strict tools take it.

What its grammar cannot hold (ranges, lengths, counts) is moved into the description, where the model still reads it.
Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.errors import bad_request

_REFUSED = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
        *("minProperties", "maxProperties", "patternProperties", "propertyNames", "dependentRequired"),
        *("dependentSchemas", "unevaluatedProperties", "unevaluatedItems", "not", "if", "then", "else"),
    }
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)
_SCHEMA_MAPS = ("properties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_DEEPEST = 64


def strict_schema(schema: dict[str, Any], where: str, depth: int = 0) -> dict[str, Any]:
    """The schema with every object closed and refused keywords put into descriptions.

    Raises:
        CallerError: it describes maps with free keys, which a closed object cannot be, or is nested too deeply.
    """
    if depth > _DEEPEST:
        raise bad_request("The schema is nested too deeply.", where)
    kept: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _SCHEMA_MAPS and isinstance(value, dict):
            kept[key] = {name: _inner(inner, f"{where}.{key}.{name}", depth) for name, inner in value.items()}
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            kept[key] = [_inner(inner, f"{where}.{key}", depth) for inner in value]
        elif key == "items":
            kept[key] = _inner(value, f"{where}.items", depth)
        elif key == "additionalProperties":
            if isinstance(value, dict) and value:
                raise bad_request(
                    "This model cannot be held to a schema with free keys (additionalProperties); use a list of pairs.",
                    f"{where}.additionalProperties",
                )
        elif (
            key in _REFUSED
            or (key == "format" and value not in _FORMATS)
            or (key == "minItems" and value not in (0, 1))
        ):
            moved[key] = value
        else:
            kept[key] = value
    if kept.get("type") == "object" or "properties" in kept:
        kept["additionalProperties"] = False
    if moved:
        note = ", ".join(f"{key}: {msgspec.json.encode(value).decode()}" for key, value in moved.items())
        kept["description"] = f"{kept['description']} ({note})" if kept.get("description") else f"({note})"
    return kept


def _refused_value(key: str, value: object) -> bool:
    if key == "format":
        return not isinstance(value, str) or value not in _FORMATS
    return key == "minItems" and value not in (0, 1)


def _inner(schema: object, where: str, depth: int) -> object:
    return strict_schema(schema, where, depth + 1) if isinstance(schema, dict) else schema
