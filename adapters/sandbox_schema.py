"""A valid instance of a JSON Schema, always the same: what the sandbox fills arguments and structured answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import bad_request

_MAX_DEPTH = 12
_MAX_VALUES = 2_000
"""In one instance: a schema that contains itself several times over would else grow without end."""
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


def instance(schema: object, text: str) -> Any:
    """A value that the schema accepts; free strings are filled with `text`.

    Known: types, enum, const, default, required, ranges, lengths, formats, `$ref`, allOf, anyOf and oneOf. Patterns are
    not solved.

    Raises:
        CallerError: it is no JSON Schema.
    """
    try:
        return _Instance(schema, text).of(schema, 0)
    except (TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        raise bad_request("A JSON Schema of the request cannot be followed; check its keywords' values.") from None


class _Instance:
    """One instance on its way."""

    def __init__(self, root: object, text: str) -> None:
        self._root = root
        self._text = text
        self._left = _MAX_VALUES

    def of(self, schema: object, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or self._left < 0:
            return None
        schema = self._resolved(schema)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if isinstance(options := schema.get("enum"), list) and options:
            return options[0]
        for key in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(key), list) and options:
                return self.of(_simplest(options, depth), depth + 1)
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                count = max(int(_number(schema.get("minItems"), 1)), 0)
                count = min(count, int(_number(schema.get("maxItems"), count)), 64) if depth < _MAX_DEPTH else 0
                return [self.of(schema.get("items") or {"type": "string"}, depth + 1) for _ in range(count)]
            case "integer":
                return int(_within(schema, 1))
            case "number":
                return _within(schema, 1.5)
            case "boolean":
                return True
            case "string":
                text = _string(schema, self._text)
                self._left -= len(text) // 100
                return text
        return None

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        required = schema.get("required") or ()
        if not isinstance(properties, Mapping):
            return {}
        # Below a few levels only what must be there, so that a schema which contains itself comes to an end.
        names = [name for name in properties if depth < 4 or name in required]
        return {name: self.of(properties[name], depth + 1) for name in names}

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema with a local `$ref` followed and `allOf` merged."""
        for _ in range(_MAX_DEPTH):
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                break
            target: Any = self._root
            for step in reference.removeprefix("#").strip("/").split("/"):
                name = step.replace("~1", "/").replace("~0", "~")
                target = target.get(name, {}) if isinstance(target, Mapping) else {}
            if not isinstance(target, Mapping) or reference in ("#", "#/"):
                target = self._root if isinstance(self._root, Mapping) else {}
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        merged = dict(schema)
        for part in merged.pop("allOf", None) or ():
            self._left -= 1
            if isinstance(part, Mapping) and self._left > 0:
                part = self._resolved(part)
                properties = {**(merged.get("properties") or {}), **(part.get("properties") or {})}
                merged = {**part, **merged} | ({"properties": properties} if properties else {})
        return merged


def _simplest(options: list[Any], depth: int) -> Any:
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
