"""The catalog document: read, publish, compare, go back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from pydantic import Field

from gateway.admin.bodies import Input, Nothing
from gateway.admin.operation import ROOT, Call, Operation, Query, Reply, operation, reply
from gateway.admin.shelf import publish
from gateway.callers.roles import Permission
from gateway.catalog.diff import describe_changes
from gateway.catalog.document import MAX_BYTES
from gateway.catalog.load import check_text
from gateway.catalog.versions import UnknownVersion
from gateway.errors import CallerError, Kind

Version = Annotated[str, Field(pattern=r"^[0-9a-f]{4,12}$")]
Title = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
_ESCAPED = 2
"""How much longer a document may be in JSON, where line ends take two characters."""


class DocumentQuery(Query):
    """Which document."""

    version: Version | None = Field(None, description="A kept version; left out: the one in force.")


class HistoryQuery(Query):
    """How much history."""

    limit: int = Field(50, ge=1, le=200)


class DiffQuery(Query):
    """Which two versions to compare."""

    from_: Version = Field(alias="from", description="The earlier one.")
    to: Version | None = Field(None, description="The later one; left out: the one in force.")


class NewDocument(Input):
    """A document to put in force."""

    document: Annotated[str, Field(max_length=MAX_BYTES, description="YAML.")]
    name: Title = Field("document", description="What messages call it, such as its file's name.")
    note: Annotated[str, Field(max_length=200)] = Field("", description="Why, for the history.")
    expected: Version | None = Field(None, description="The version it was made from; refused if another is in force.")


class Comparison(Input):
    """A document to compare with the one in force."""

    document: Annotated[str, Field(max_length=MAX_BYTES, description="YAML.")]
    name: Title = Field("document", description="What messages call it, such as its file's name.")


class Rollback(Input):
    """The version to go back to."""

    version: Version
    note: Annotated[str, Field(max_length=200)] = ""


async def show_document(call: Call[Nothing, DocumentQuery]) -> Reply:
    source = call.desk.catalog.source
    text = source.text if call.query.version is None else await _kept(call, call.query.version)
    return Reply(text, media_type=b"application/yaml; charset=utf-8")


async def list_versions(call: Call[Nothing, HistoryQuery]) -> Reply:
    """The newest publications, and which version each process serves by."""
    catalog = call.desk.catalog
    found = [msgspec.structs.asdict(made) for made in await catalog.versions.history(call.query.limit)]
    processes = [msgspec.structs.asdict(member) for member in await catalog.fleet.members()]
    return reply({"in_force": catalog.source.current.version, "data": found, "processes": processes})


async def compare_versions(call: Call[Nothing, DiffQuery]) -> Reply:
    source = call.desk.catalog.source
    first, second = call.query.from_, call.query.to or source.current.version
    before = await _kept(call, first)
    after = source.text if call.query.to is None else await _kept(call, second)
    return reply({"data": await _changes(call, (before, first), (after, second))})


async def compare_document(call: Call[Comparison, Query]) -> Reply:
    """What a document would change, with what last month's traffic would have cost by its prices."""
    source, body = call.desk.catalog.source, call.body
    in_force = (source.text, source.current.version)
    return reply({"data": await _changes(call, in_force, (body.document.encode(), body.name))})


async def publish_document(call: Call[NewDocument, Query]) -> Reply:
    source, body = call.desk.catalog.source, call.body
    expected = body.expected or source.current.version
    text = body.document.encode()
    snapshot = await publish(
        call, "catalog.publish", "catalog", text, expected=expected, note=body.note, name=body.name
    )
    return reply({"version": snapshot.version, "warnings": list(snapshot.warnings)})


async def roll_back(call: Call[Rollback, Query]) -> Reply:
    source, version = call.desk.catalog.source, call.body.version
    text = await _kept(call, version)
    note = call.body.note or f"back to {version}"
    snapshot = await publish(
        call, "catalog.rollback", version, text, expected=source.current.version, note=note, name=version
    )
    return reply({"version": snapshot.version, "warnings": list(snapshot.warnings)})


async def _kept(call: Call[Any, Any], version: str) -> bytes:
    try:
        return await call.desk.catalog.versions.document(version)
    except UnknownVersion as error:
        raise CallerError(Kind.NOT_FOUND, f"{error}.", param="version") from None


async def _changes(call: Call[Any, Any], before: tuple[bytes, str], after: tuple[bytes, str]) -> list[str]:
    """What differs between two documents, each with what messages call it."""
    usage = await call.desk.catalog.traffic(days=30)
    now = call.desk.clock()

    def compare() -> list[str]:
        return describe_changes(check_text(*before)[1], check_text(*after)[1], now, usage)

    return await asyncio.to_thread(compare)


_CATALOG = f"{ROOT}/catalog"
OPERATIONS: Sequence[Operation[Any, Any]] = (
    operation("GET", _CATALOG, Permission.READ_HEALTH, "The document itself.", show_document, query=DocumentQuery),
    operation(
        "GET",
        f"{_CATALOG}/history",
        Permission.READ_HEALTH,
        "Who put which version in force, when, and who serves by it.",
        list_versions,
        query=HistoryQuery,
    ),
    operation(
        "GET",
        f"{_CATALOG}/diff",
        Permission.READ_HEALTH,
        "What differs between two versions.",
        compare_versions,
        query=DiffQuery,
    ),
    operation(
        "POST",
        f"{_CATALOG}/diff",
        Permission.READ_HEALTH,
        "What a document would change.",
        compare_document,
        body=Comparison,
        largest_body=_ESCAPED * MAX_BYTES,
    ),
    operation(
        "POST",
        f"{_CATALOG}/publish",
        Permission.OPERATE,
        "Put a document in force everywhere.",
        publish_document,
        body=NewDocument,
        largest_body=_ESCAPED * MAX_BYTES,
    ),
    operation(
        "POST", f"{_CATALOG}/rollback", Permission.OPERATE, "Put a former version in force.", roll_back, body=Rollback
    ),
)
