"""Keys: list, make, change, rotate, revoke. Every change is in the audit stream before it is in the store."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import msgspec

from gateway.admin.bodies import (
    ChangedKey,
    KeyChange,
    KeyFields,
    KeyList,
    MintedKey,
    NewKey,
    Nothing,
    Rotation,
    rules,
    view,
)
from gateway.admin.names import unknown_names
from gateway.admin.operation import Call, Query, Reply, reply
from gateway.callers.keys import is_key_id, mint, new_key_id
from gateway.callers.records import KeyRecord, StoredSecret
from gateway.callers.roles import Role
from gateway.callers.scope import check_within
from gateway.errors import CallerError, Kind, bad_request
from gateway.types import Secret

AnyCall = Call[Any, Any]


async def list_keys(call: Call[Nothing, Query]) -> Reply:
    records = await call.desk.records.all(call.caller.tenant)
    now = call.desk.clock()
    return reply(KeyList(data=[view(record, now) for record in records]))


async def show_key(call: Call[Nothing, Query]) -> Reply:
    return reply(view(await _find(call), call.desk.clock()))


async def create_key(call: Call[NewKey, Query]) -> Reply:
    desk, minter = call.desk, call.caller
    key_id, tenant = new_key_id(), call.body.tenant or minter.tenant
    key = mint(tenant, key_id)
    now = desk.clock()
    blank = KeyRecord(
        key_id=key_id,
        tenant=tenant,
        name=call.body.name,
        role=call.body.role,
        secrets=(_stored(call, key),),
        created_at=now,
        created_by=minter.key_id,
    )
    record = _filled(blank, call.body)
    check_within(minter, record)
    await _change(call, "key.create", None, record)
    return _minted(call, record, key, 201)


async def change_key(call: Call[KeyChange, Query]) -> Reply:
    old = await _find(call)
    if old.revoked_at is not None:
        raise CallerError(Kind.BAD_REQUEST, "A revoked key cannot be changed; make a new one.")
    new = _filled(msgspec.structs.replace(old, version=old.version + 1), call.body)
    check_within(call.caller, new)
    await _change(call, "key.update", old, new)
    return reply(ChangedKey(**dict(view(new, call.desk.clock())), warnings=_warnings(call, new)))


async def rotate_key(call: Call[Rotation, Query]) -> Reply:
    """A new secret; the newest one so far stays valid for the overlap, an older one ends now."""
    old = await _find(call)
    now = call.desk.clock()
    if not old.active(now):
        raise CallerError(Kind.BAD_REQUEST, "Only an active key can be rotated; make a new one.")
    check_within(call.caller, old)
    key = mint(old.tenant, old.key_id)
    former = msgspec.structs.replace(old.secrets[0], expires_at=now + call.body.overlap_s)
    kept = (former,) if call.body.overlap_s else ()
    new = msgspec.structs.replace(old, secrets=(_stored(call, key), *kept), version=old.version + 1)
    await _change(call, "key.rotate", old, new)
    return _minted(call, new, key, 200)


async def revoke_key(call: Call[Nothing, Query]) -> Reply:
    """Ends a key for good; doing it twice changes nothing."""
    old = await _find(call)
    if old.role is Role.ADMIN and call.caller.role is not Role.ADMIN:
        raise CallerError(Kind.FORBIDDEN, "Only an admin may revoke an admin's key.")
    if old.revoked_at is not None:
        return reply(view(old, call.desk.clock()))
    new = msgspec.structs.replace(old, revoked_at=call.desk.clock(), secrets=(), version=old.version + 1)
    await _change(call, "key.revoke", old, new)
    return reply(view(new, call.desk.clock()))


async def _find(call: AnyCall) -> KeyRecord:
    key_id = call.path["key_id"]
    record = await call.desk.records.load(call.caller.tenant, key_id) if is_key_id(key_id) else None
    if record is None:
        raise CallerError(Kind.NOT_FOUND, "There is no key with this id.")
    return record


async def _change(call: AnyCall, action: str, old: KeyRecord | None, new: KeyRecord) -> None:
    """Audits, writes, and makes the change hold in this process at once.

    Raises:
        CallerError: status 409 where the key was changed by another hand since `old` was read.
    """
    audit = partial(
        call.desk.audit.append,
        call.caller,
        action,
        new.key_id,
        before=_hash(old),
        after=_hash(new),
        request_id=call.request_id,
        ip=call.ip,
    )
    await audit()
    written = await call.desk.records.write(new)
    call.desk.callers.forget(new.tenant, new.key_id)
    if not written:
        await audit(outcome="failed")
        raise CallerError(
            Kind.BAD_REQUEST, "Someone else changed the key just now; look at it again.", status=409, code="conflict"
        )


def _filled(record: KeyRecord, fields: KeyFields) -> KeyRecord:
    """The record with every field that the body names."""
    given: dict[str, Any] = {name: getattr(fields, name) for name in fields.model_fields_set - {"tenant"}}
    if "budget" in given:
        given["budgets"] = rules(given.pop("budget"))
    for name in ("tiers", "models"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    for name in ("denied_models", "cidrs"):
        if name in given:
            given[name] = tuple(given[name])
    for name in ("not_before", "expires_at"):
        if given.get(name) is not None:
            given[name] = given[name].timestamp()
    if "team" in given:
        given["team"] = given["team"] or ""
    filled = msgspec.structs.replace(record, **given)
    if filled.not_before and filled.expires_at and filled.expires_at <= filled.not_before:
        raise bad_request("'expires_at' must lie after 'not_before'.", "expires_at")
    return filled


def _stored(call: AnyCall, key: Secret) -> StoredSecret:
    return StoredSecret(call.desk.pepper.digest(key.reveal().encode()))


def _minted(call: AnyCall, record: KeyRecord, key: Secret, status: int) -> Reply:
    shown = view(record, call.desk.clock())
    return reply(MintedKey(**dict(shown), warnings=_warnings(call, record), key=key.reveal()), status)


def _warnings(call: AnyCall, record: KeyRecord) -> list[str]:
    snapshot = call.desk.catalog.source.current
    told = unknown_names(snapshot, record.tiers or (), (*(record.models or ()), *record.denied_models))
    expired = record.expires_at is not None and record.expires_at <= call.desk.clock()
    return [*told, "the key has expired already"] if expired else told


def _hash(record: KeyRecord | None) -> str:
    return "" if record is None else hashlib.sha256(msgspec.json.encode(record)).hexdigest()
