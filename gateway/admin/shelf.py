"""Changing the catalog for somebody: audited, written where it lives, in force here before it is answered."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

from gateway.admin.operation import Call
from gateway.catalog.edit import Change, edit
from gateway.catalog.problems import InvalidCatalog
from gateway.catalog.snapshot import Snapshot
from gateway.catalog.versions import VersionConflict
from gateway.errors import CallerError, CatalogError, Kind, bad_request

AnyCall = Call[Any, Any]


async def change_document(call: AnyCall, action: str, target: str, changes: list[Change]) -> Snapshot:
    """Makes the changes and puts the document in force; an empty list changes nothing.

    Raises:
        CallerError: what would come of it cannot take effect (with line and fix), or cannot be written.
    """
    source = call.desk.catalog.source
    if not changes:
        return source.current
    try:
        text = edit(source.text, changes)
    except CatalogError as error:
        raise bad_request(str(error)) from None
    return await publish(call, action, target, text, expected=source.current.version, note=f"{action} {target}"[:200])


async def publish(
    call: AnyCall, action: str, target: str, text: bytes, *, expected: str, note: str, name: str | None = None
) -> Snapshot:
    """Puts a whole document in force. What was and what came of it stand in the audit by the documents' SHA-256.

    `name` is what problems call the document; left out, as where the catalog lives.

    Raises:
        CallerError: as `change_document`; status 409 where another version is in force than the `expected` one.
    """
    source = call.desk.catalog.source
    audit = partial(
        call.desk.audit.append,
        call.caller,
        action,
        target[:200],
        before=hashlib.sha256(source.text).hexdigest(),
        after=hashlib.sha256(text).hexdigest(),
        request_id=call.request_id,
        ip=call.ip,
    )
    await audit()
    try:
        snapshot = await source.publish(text, by=call.caller.key_id, note=note, expected=expected, name=name)
        await call.desk.catalog.versions.publish(text, by=call.caller.key_id, note=note)
    except VersionConflict as error:
        await audit(outcome="failed")
        raise CallerError(Kind.BAD_REQUEST, f"{error}.", status=409, code="conflict") from None
    except InvalidCatalog as error:
        await audit(outcome="failed")
        raise bad_request(f"The catalog would not be valid:\n{error}", code="catalog_invalid") from None
    except CatalogError as error:
        await audit(outcome="failed")
        raise bad_request(f"{error}.") from None
    await call.desk.catalog.fleet.step()
    return snapshot
