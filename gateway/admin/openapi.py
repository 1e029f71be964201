"""The admin API's OpenAPI description, made from its table of operations and their pydantic models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.admin.bodies import Nothing
from gateway.admin.operation import Operation, Query

_REF = "#/components/schemas/{model}"

_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "request_id"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "request_id": {"type": "string"},
            },
        }
    },
}
_ERRORS = {"400": "Not understood", "401": "No or a wrong key", "403": "Not for this role", "404": "Not found"}


def describe(operations: Sequence[Operation[Any, Any]]) -> dict[str, Any]:
    """An OpenAPI 3.1 document. Source: https://spec.openapis.org/oas/v3.1.0 (read 2026-11-21)."""
    takes = {op.body for op in operations if op.body is not Nothing}
    gives = {op.gives for op in operations if op.gives is not None}
    named: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in sorted(takes, key=_name)]
    named += [(model, "serialization") for model in sorted(gives, key=_name)]
    references, definitions = models_json_schema(named, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _operation(op, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tiergate admin API", "version": version("tiergate")},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {**definitions.get("$defs", {}), "Error": _ERROR_SCHEMA},
        },
    }


def _operation(op: Operation[Any, Any], references: dict[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": op.summary}
    if op.gives is not None:
        good["content"] = _json(references[op.gives, "serialization"])
    errors = {
        status: {"description": text, "content": _json({"$ref": _REF.format(model="Error")})}
        for status, text in _ERRORS.items()
    }
    described: dict[str, Any] = {
        "operationId": op.handle.__name__,
        "summary": op.summary,
        "description": f"Takes permission `{op.permission}`.",
        "parameters": _path_parameters(op.path) + _query_parameters(op.query),
        "responses": {str(op.status): good, **errors},
    }
    if op.body is not Nothing:
        described["requestBody"] = {"required": True, "content": _json(references[op.body, "validation"])}
    return described


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(query: type[Query]) -> list[dict[str, Any]]:
    schema = query.model_json_schema()
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        for name, field in schema.get("properties", {}).items()
    ]


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _name(model: type[BaseModel]) -> str:
    return model.__name__
