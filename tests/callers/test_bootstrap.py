"""What an installation starts with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clocks import SetClock
from redis.asyncio import Redis

from gateway.callers.bootstrap import APP_KEY_ID, InstallationError, Opened, open_callers
from gateway.callers.callers import name_of
from gateway.callers.roles import Role
from gateway.errors import CallerError

ADMIN, APP = "an-admin-token-of-an-operator", "an-app-key-of-an-operator"


@pytest.fixture
def start(store: Redis, tmp_path: Path, clock: SetClock, monotonic: SetClock) -> Any:
    """Starts the installation in this test's data folder."""

    async def opened(folder: str = "data", **settings: str | None) -> Opened:
        given = {"pepper": None, "admin_token": None, "app_key": None, **settings}
        return await open_callers(store, tmp_path / folder, **given, clock=clock, monotonic=monotonic)

    return opened


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


async def test_a_first_start_makes_an_app_key_and_an_admin_token(start: Any, tmp_path: Path) -> None:
    """Both work, and are told only once; the admin token can be read again from its file by the owner alone."""
    first = await start()
    assert first.new_app_key is not None
    assert first.new_admin_token is not None
    file = tmp_path / "data" / "admin-token"
    assert file.read_text().strip() == first.new_admin_token.reveal()
    assert [p.stat().st_mode & 0o777 for p in (file, tmp_path / "data" / "pepper")] == [0o600, 0o600]
    again = await start()
    assert (again.new_app_key, again.new_admin_token) == (None, None)
    app = await again.callers.identify(bearer(first.new_app_key.reveal()), None)
    admin = await again.callers.identify(bearer(first.new_admin_token.reveal()), None)
    assert (app.role, app.limits, app.tiers) == (Role.APP, None, None)
    assert admin.role is Role.ADMIN


async def test_the_made_app_key_is_kept_nowhere(start: Any, store: Redis, tmp_path: Path) -> None:
    """Only its keyed digest is in the store, nothing in the data folder."""
    secret = (await start()).new_app_key.reveal().rsplit("_", 1)[1]
    kept = await store.hgetall(f"{{t:main}}:k:{APP_KEY_ID}")
    files = b"".join(p.read_bytes() for p in (tmp_path / "data").iterdir())
    assert secret.encode() not in b"".join(kept.values()) + files


async def test_given_credentials_of_any_form_work_without_the_store(start: Any, store: Redis) -> None:
    """An operator's own key needs no key format and no record."""
    opened = await start(admin_token=ADMIN, app_key=APP)
    assert (opened.new_app_key, opened.new_admin_token) == (None, None)
    assert (await opened.callers.identify(bearer(APP), None)).role is Role.APP
    assert (await opened.callers.identify(bearer(ADMIN), None)).role is Role.ADMIN
    assert opened.callers.cached(name_of(bearer(APP))) is not None
    assert await store.exists("{t:main}:keys") == 0
    with pytest.raises(CallerError):
        await opened.callers.identify(bearer(APP + "x"), None)


async def test_a_revoked_first_key_is_not_made_again(start: Any, clock: SetClock) -> None:
    """Revoking the bootstrap key lasts."""
    opened = await start()
    record = await opened.records.load("main", APP_KEY_ID)
    assert await opened.records.write(msgspec.structs.replace(record, revoked_at=clock(), version=2))
    assert (await start()).new_app_key is None


async def test_processes_that_start_together_agree(start: Any) -> None:
    """One app key, one admin token, one pepper, whoever is first."""
    started = await asyncio.gather(*(start() for _ in range(8)))
    made = [s.new_app_key for s in started if s.new_app_key]
    tokens = [s.new_admin_token for s in started if s.new_admin_token]
    assert (len(made), len(tokens), len({s.pepper.fingerprint for s in started})) == (1, 1, 1)
    for opened in started:
        assert (await opened.callers.identify(bearer(made[0].reveal()), None)).role is Role.APP


async def test_a_replica_with_another_pepper_does_not_start(start: Any) -> None:
    """It would refuse every key: better told at once, with what to do."""
    await start()
    with pytest.raises(InstallationError, match="TIERGATE_PEPPER"):
        await start(folder="elsewhere")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"admin_token": "short"}, "TIERGATE_ADMIN_TOKEN is shorter"),
        ({"app_key": "short"}, "TIERGATE_APP_KEY is shorter"),
        ({"admin_token": APP, "app_key": APP}, "are the same"),
        ({"pepper": "short"}, "TIERGATE_PEPPER"),
    ],
)
async def test_weak_credentials_are_refused(start: Any, settings: dict[str, str], words: str) -> None:
    """The gateway does not start with a credential that can be guessed."""
    with pytest.raises(InstallationError, match=words):
        await start(**settings)


async def test_a_secret_that_others_can_read_is_refused(start: Any, tmp_path: Path) -> None:
    """The message names the file and the mend."""
    await start()
    (tmp_path / "data" / "admin-token").chmod(0o644)
    with pytest.raises(InstallationError, match=r"chmod 600 .*admin-token"):
        await start()
