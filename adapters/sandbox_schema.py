"""A valid instance of a JSON Schema, always the same: what the sandbox fills arguments and structured answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 12
_FORMATS: Mapping[str, str] = {
    "date": "2025-01-15",
    "date-time": "2025-01-15T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}


def instance(schema: object, text: str, root: object = None, depth: int = 0) -> Any:
    """A value that the schema accepts; free strings are filled with `text`.

    Known: types, enum, const, default, required, ranges, lengths, formats, `$ref`, allOf, anyOf and oneOf. Patterns are
    not solved.
    """
    root = schema if root is None else root
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    schema = _resolved(schema, root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if isinstance(options := schema.get("enum"), list) and options:
        return options[0]
    for key in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(key), list) and options:
            return instance(_simplest(options, root, depth), text, root, depth + 1)
    return _of_type(schema, text, root, depth)


def _of_type(schema: Mapping[str, Any], text: str, root: object, depth: int) -> Any:
    match _type_of(schema):
        case "object":
            return _object(schema, text, root, depth)
        case "array":
            count = max(int(_number(schema.get("minItems"), 1)), 0)
            count = min(count, int(_number(schema.get("maxItems"), count)), 64) if depth < _MAX_DEPTH else 0
            return [instance(schema.get("items") or {"type": "string"}, text, root, depth + 1) for _ in range(count)]
        case "integer":
            return int(_within(schema, 1))
        case "number":
            return _within(schema, 1.5)
        case "boolean":
            return True
        case "string":
            return _string(schema, text)
    return None


def _object(schema: Mapping[str, Any], text: str, root: object, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    required = schema.get("required") or ()
    if not isinstance(properties, Mapping):
        return {}
    # Below a few levels only what must be there, so that a schema which contains itself comes to an end.
    names = [name for name in properties if depth < 4 or name in required]
    return {name: instance(properties[name], text, root, depth + 1) for name in names}


def _resolved(schema: Mapping[str, Any], root: object) -> Mapping[str, Any]:
    """The schema with a local `$ref` followed and `allOf` merged."""
    for _ in range(_MAX_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        target: Any = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            target = target.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, Mapping) else {}
        if not isinstance(target, Mapping) or reference in ("#", "#/"):
            target = root if isinstance(root, Mapping) else {}
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    merged = dict(schema)
    for part in merged.pop("allOf", None) or ():
        if isinstance(part, Mapping):
            part = _resolved(part, root)
            properties = {**(merged.get("properties") or {}), **(part.get("properties") or {})}
            merged = {**part, **merged} | ({"properties": properties} if properties else {})
    return merged


def _simplest(options: list[Any], root: object, depth: int) -> Any:
    """The first option that is not null; null deep down, where recursion must end."""
    nulls = [option for option in options if isinstance(option, Mapping) and option.get("type") == "null"]
    others = [option for option in options if option not in nulls]
    return nulls[0] if nulls and (depth > 3 or not others) else others[0]


def _type_of(schema: Mapping[str, Any]) -> str | None:
    told = schema.get("type")
    if isinstance(told, list):
        told = next((name for name in told if name != "null"), "null")
    if isinstance(told, str):
        return told
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _string(schema: Mapping[str, Any], text: str) -> str:
    if (known := _FORMATS.get(str(schema.get("format")))) is not None:
        return known
    least, most = int(_number(schema.get("minLength"), 0)), int(_number(schema.get("maxLength"), 10_000))
    return (text or "text").ljust(min(least, 10_000), ".")[: max(most, 0)]


def _within(schema: Mapping[str, Any], value: float) -> float:
    step = _number(schema.get("multipleOf"), 0)
    integral = _type_of(schema) == "integer"
    nudge = step or (1 if integral else 0.5)
    low = _number(schema.get("minimum"), _number(schema.get("exclusiveMinimum"), value - nudge) + nudge)
    high = _number(schema.get("maximum"), _number(schema.get("exclusiveMaximum"), max(low, value) + nudge) - nudge)
    value = min(max(value, low), high)
    return -(-value // step) * step if step else value


def _number(value: object, otherwise: float) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
