"""The credentials that an installation starts with: the pepper, the admin token, the first app key."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.callers.caller import bootstrap_caller
from gateway.callers.callers import Callers
from gateway.callers.keys import MAIN_TENANT, Pepper, RandomBytes, mint, new_key_id
from gateway.callers.records import KeyRecord, KeyRecords, StoredSecret
from gateway.callers.roles import Role
from gateway.errors import TiergateError
from gateway.storage.client import Store
from gateway.types import Secret

APP_KEY_ID = "bootstrapapp"
ADMIN_KEY_ID = "bootstrapadm"
ADMIN_TOKEN_FILE = "admin-token"  # noqa: S105  # a file's name
PEPPER_FILE = "pepper"
_SHORTEST = 20


class InstallationError(TiergateError):
    """The installation's credentials cannot be used; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What `open_callers` gives."""

    callers: Callers
    records: KeyRecords
    pepper: Pepper
    new_app_key: Secret | None
    """Made at this start: to be shown once, kept nowhere but as a digest."""
    new_admin_token: Secret | None
    """Made at this start: to be shown once; it also stands in a 0600 file of the data folder."""


async def open_callers(
    store: Store,
    data_dir: Path,
    *,
    pepper: str | None,
    admin_token: str | None,
    app_key: str | None,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    random: RandomBytes = secrets.token_bytes,
) -> Opened:
    """Makes what a first start needs and readies the callers. Several processes may do this at once.

    Raises:
        InstallationError: a credential is too short, a secret's file may be read by others, or the store's keys were
            made under another pepper.
    """
    for variable, value in (("TIERGATE_ADMIN_TOKEN", admin_token), ("TIERGATE_APP_KEY", app_key)):
        if value is not None and len(value) < _SHORTEST:
            raise InstallationError(f"{variable} is shorter than {_SHORTEST} characters: choose a long random text")
    if app_key is not None and app_key == admin_token:
        raise InstallationError("TIERGATE_APP_KEY and TIERGATE_ADMIN_TOKEN are the same: an app must not be an admin")
    try:
        mixed = Pepper((pepper or _kept(data_dir / PEPPER_FILE, lambda: random(32).hex())[0]).encode())
    except ValueError as error:
        raise InstallationError(str(error)) from None
    await _check_pepper(store, mixed)
    token, token_is_new = (admin_token, False) if admin_token else _kept(data_dir / ADMIN_TOKEN_FILE, _minter(random))
    known = {mixed.digest(token.encode()): bootstrap_caller(MAIN_TENANT, ADMIN_KEY_ID, Role.ADMIN)}
    records = KeyRecords(store, mixed)
    new_app_key = None
    if app_key is not None:
        known[mixed.digest(app_key.encode())] = bootstrap_caller(MAIN_TENANT, APP_KEY_ID, Role.APP)
    else:
        new_app_key = await _first_app_key(records, mixed, clock(), random)
    return Opened(
        Callers(records, mixed, known, clock=clock, monotonic=monotonic),
        records,
        mixed,
        new_app_key,
        Secret(token) if token_is_new else None,
    )


async def _first_app_key(records: KeyRecords, pepper: Pepper, now: float, random: RandomBytes) -> Secret | None:
    """A key for all tiers without limits, unless one was made before; one that was revoked stays so."""
    key = mint(MAIN_TENANT, APP_KEY_ID, random)
    record = KeyRecord(
        key_id=APP_KEY_ID,
        tenant=MAIN_TENANT,
        name="bootstrap app",
        role=Role.APP,
        secrets=(StoredSecret(pepper.digest(key.reveal().encode())),),
        created_at=now,
        created_by=ADMIN_KEY_ID,
    )
    return key if await records.write(record) else None


async def _check_pepper(store: Any, pepper: Pepper) -> None:
    name = f"{{t:{MAIN_TENANT}}}:pepper"
    await store.execute_command("SET", name, pepper.fingerprint, "NX")
    kept: bytes = await store.execute_command("GET", name)
    if kept.decode() != pepper.fingerprint:
        raise InstallationError(
            f"the keys in the store were made under another pepper ({kept.decode()}, not {pepper.fingerprint}): "
            "give every replica the same TIERGATE_PEPPER, or the first one's data folder's 'pepper' file; "
            f"to give up all keys made so far, delete '{name}' from the store"
        )


def _minter(random: RandomBytes) -> Callable[[], str]:
    return lambda: mint(MAIN_TENANT, new_key_id(random), random).reveal()


def _kept(path: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """The secret in this file, and whether it was made just now; whole or not there, whoever else makes it too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = False
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
            made = True
        except FileExistsError:
            pass  # another process was first: its secret counts
        finally:
            draft.unlink()
    if path.stat().st_mode & 0o027:
        raise InstallationError(f"{path} may be read by others: chmod 600 {path}")
    return path.read_text().strip(), made
