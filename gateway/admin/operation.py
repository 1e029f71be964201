"""One operation of the admin API: its route, what it demands of its caller, what it takes, and what it does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.admin.bodies import Input, Nothing
from gateway.admin.desk import Desk
from gateway.callers.caller import Caller
from gateway.callers.roles import Permission
from gateway.errors import CallerError, bad_request

ROOT = "/admin/api"

B = TypeVar("B", bound=Input)
Q = TypeVar("Q", bound="Query")
M = TypeVar("M", bound=BaseModel)


class Query(BaseModel):
    """Query parameters; one that is not described is an error."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


@dataclass(frozen=True, slots=True)
class Call(Generic[B, Q]):
    """One use of an operation by a caller who may."""

    desk: Desk
    caller: Caller
    body: B
    query: Q
    path: Mapping[str, str]
    request_id: str
    ip: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What an operation answers."""

    body: bytes | AsyncIterator[bytes]
    """Whole, or in pieces."""
    status: int = 200
    media_type: bytes = b"application/json"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Operation(Generic[B, Q]):
    """A row of the table in `routes.py`."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    permission: Permission
    summary: str
    handle: Callable[[Call[B, Q]], Awaitable[Reply]]
    body: type[B]
    query: type[Q]
    gives: type[BaseModel] | None = None
    status: int = 200
    largest_body: int = 1024 * 1024
    """In bytes; a longer one is refused with 413."""


def operation(
    method: Literal["GET", "POST", "PATCH", "DELETE"],
    path: str,
    permission: Permission,
    summary: str,
    handle: Callable[[Call[B, Q]], Awaitable[Reply]],
    **rest: Any,
) -> Operation[Any, Any]:
    """An operation that takes no body and no parameters unless `body` and `query` say so."""
    return Operation(method, path, permission, summary, handle, **{"body": Nothing, "query": Query, **rest})


def reply(content: BaseModel | Mapping[str, Any], status: int = 200) -> Reply:
    """A JSON reply."""
    if isinstance(content, BaseModel):
        return Reply(content.model_dump_json().encode(), status)
    return Reply(msgspec.json.encode(content), status)


def read(model: type[M], text: bytes) -> M:
    """A JSON body as its model.

    Raises:
        CallerError: BAD_REQUEST, naming the field and what it must be.
    """
    try:
        body = model.model_validate_json(text)
    except ValidationError as error:
        raise _first_problem(error, "body") from None
    try:
        json.loads(text, object_pairs_hook=_once_each, parse_int=str, parse_float=str)  # the one parser that tells
    except ValueError as error:
        raise bad_request(f"Invalid body: {error}.") from None
    return body


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    """Refuses an object in which a name stands twice: of two limits, which one was meant cannot be known."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise bad_request(f"The body names '{name[:100]}' more than once.", name[:100])
        seen.add(name)


def read_query(model: type[M], parameters: list[tuple[str, str]]) -> M:
    """Query parameters as their model.

    Raises:
        CallerError: BAD_REQUEST, naming the parameter and what it must be.
    """
    given = dict(parameters)
    if len(given) < len(parameters):
        raise bad_request("A query parameter is given more than once.")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _first_problem(error, "query") from None


def _first_problem(error: ValidationError, where: str) -> CallerError:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    steps = [str(step) for step in problem["loc"] if not str(step).startswith(("<", "[key]"))]
    param = ".".join(steps)[:200] or None
    if problem["type"] == "extra_forbidden":
        text = f"Unknown field '{param}' in the {where}."
    elif problem["type"] == "missing":
        text = f"Missing field '{param}' in the {where}."
    else:
        words = problem["msg"].removeprefix("Value error, ")
        text = f"Invalid '{param}' in the {where}: {words}." if param else f"Invalid {where}: {words}."
    return bad_request(text, param)
