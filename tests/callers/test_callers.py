"""From an Authorization header to a caller."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import msgspec
import pytest
from clocks import SetClock
from stores import StoreServer

from gateway.callers import callers as callers_module
from gateway.callers.callers import Callers, credential, name_of
from gateway.callers.keys import mint, new_key_id
from gateway.callers.records import BudgetRule, StoredSecret
from gateway.callers.roles import Permission, Role
from gateway.errors import CallerError, GatewayError, GatewayUnavailable, Kind
from gateway.ledger.limits import Budget, Cap

IP = "203.0.113.7"


async def refusal(callers: Callers, authorization: bytes | None, ip: str | None = IP) -> GatewayError:
    """How the callers refuse this header."""
    with pytest.raises(GatewayError) as caught:
        await callers.identify(authorization, ip)
    return caught.value


async def settle(callers: Callers) -> None:
    """Lets background lookups end."""
    while callers._asking:
        await asyncio.gather(*callers._asking.values(), return_exceptions=True)
        await asyncio.sleep(0)


async def test_a_key_is_known_by_its_record(house: Any) -> None:
    """Everything that the record grants arrives in the caller."""
    header, record = await house.key(team="search", tags={"env": "prod"}, tiers=("fast",), denied_models=("gpt-5",))
    caller = await house.callers.identify(header, IP)
    assert (caller.tenant, caller.key_id, caller.team, caller.role) == ("main", record.key_id, "search", Role.APP)
    assert (caller.tags, caller.tiers, caller.denied_models) == ((("env", "prod"),), {"fast"}, {"gpt-5"})
    assert caller.limits is None
    assert caller.may(Permission.INFER)


async def test_limits_come_from_the_record(house: Any) -> None:
    """Budgets and rates become what the ledger enforces, tied to the record's own store key."""
    budgets = (BudgetRule(5_000_000_000, "day"), BudgetRule(9_000_000_000, "month", hard=False))
    header, record = await house.key(budgets=budgets, rpm=60, tpm=1000, concurrency=2)
    limits = (await house.callers.identify(header, IP)).limits
    assert limits is not None
    day, month = f"{record.key_id}-day", f"{record.key_id}-month"
    assert limits.budgets == (Budget(day, 5_000_000_000, "day"), Budget(month, 9_000_000_000, "month", hard=False))
    scope = f"k:{record.key_id}"
    assert (limits.rpm, limits.tpm, limits.concurrency) == ((Cap(scope, 60),), (Cap(scope, 1000),), (Cap(scope, 2),))
    assert limits.record is not None
    assert await house.store.exists(limits.record) == 1


async def test_a_known_caller_is_found_without_the_store(house: Any) -> None:
    """The request path's lookup is synchronous once a key was seen, and knows nothing before."""
    header, _ = await house.key()
    assert house.callers.cached(name_of(header)) is None
    caller = await house.callers.identify(header, IP)
    assert house.callers.cached(name_of(header)) is caller


@pytest.mark.parametrize("header", [None, b"", b"Bearer", b"Bearer ", b"Bearer  ", b"Basic abc"])
async def test_no_key_is_told_so(house: Any, header: bytes | None) -> None:
    """Every way of giving no key gets the same words."""
    error = await refusal(house.callers, header)
    assert (error.status, error.kind) == (401, Kind.UNAUTHENTICATED)
    assert error.message.startswith("You didn't provide an API key.")


async def test_every_wrong_key_gets_the_same_answer(house: Any) -> None:
    """Unknown, malformed, revoked, expired, not yet valid, from elsewhere: nobody can tell which."""
    revoked, _ = await house.key(revoked_at=1.0)
    expired, _ = await house.key(expires_at=house.clock() - 1)
    early, _ = await house.key(not_before=house.clock() + 1)
    elsewhere, _ = await house.key(cidrs=("10.0.0.0/8",))
    unknown = b"Bearer " + mint("main", new_key_id()).reveal().encode()
    other_tenant = b"Bearer " + mint("other", new_key_id()).reveal().encode()
    _, record = await house.key()
    other_secret = b"Bearer " + mint("main", record.key_id).reveal().encode()
    wrong = [b"Bearer x", b"Bearer \r\n\0", b"Bearer " + b"q" * 10_000, "Bearer 🔑".encode(), revoked, expired, early]
    wrong += [elsewhere, unknown, other_tenant, other_secret]
    bodies = [msgspec.json.encode((await refusal(house.callers, header)).envelope("id")) for header in wrong]
    assert len(set(bodies)) == 1
    assert b"invalid_api_key" in bodies[0]


async def test_junk_never_reaches_the_store(house: Any) -> None:
    """A key with a wrong checksum costs no store call."""
    key = mint("main", new_key_id()).reveal()
    before = (await house.store.info("stats"))["total_commands_processed"]
    for _ in range(50):
        await refusal(house.callers, b"Bearer " + key[:-1].encode() + (b"0" if key[-1] != "0" else b"1"))
    assert (await house.store.info("stats"))["total_commands_processed"] - before <= 2  # the INFOs themselves


async def test_guessing_is_slowed_down_and_known_keys_are_not(house: Any) -> None:
    """After a burst of well-formed unknown keys an address must wait; keys in use go on, and others never notice."""
    header, _ = await house.key()
    await house.callers.identify(header, IP)
    unknown = [b"Bearer " + mint("main", new_key_id()).reveal().encode() for _ in range(105)]
    kinds = [(await refusal(house.callers, key)).kind for key in unknown]
    assert kinds == [Kind.UNAUTHENTICATED] * 100 + [Kind.RATE_LIMIT] * 5
    house.monotonic.advance(4.9)
    assert (await house.callers.identify(header, IP)).name == "a key"
    house.monotonic.advance(60)
    assert (await house.callers.identify(header, IP)).name == "a key"
    assert (await refusal(house.callers, unknown[0], "198.51.100.1")).kind is Kind.UNAUTHENTICATED


async def test_a_wrong_key_that_is_sent_on_and_on_spoils_nobodys_day(house: Any) -> None:
    """It costs one look-up a second, and a key that is new to this process still comes in from the same address."""
    wrong = b"Bearer " + mint("main", new_key_id()).reveal().encode()
    await refusal(house.callers, wrong)
    before = (await house.store.info("commandstats"))["cmdstat_hmget"]["calls"]
    for _ in range(500):
        assert (await refusal(house.callers, wrong)).kind is Kind.UNAUTHENTICATED
    assert (await house.store.info("commandstats"))["cmdstat_hmget"]["calls"] == before
    header, _ = await house.key()
    assert (await house.callers.identify(header, IP)).name == "a key"
    house.monotonic.advance(1)
    await refusal(house.callers, wrong)
    assert (await house.store.info("commandstats"))["cmdstat_hmget"]["calls"] == before + 2


async def test_a_revoked_key_is_dead_within_five_seconds(house: Any) -> None:
    """Another replica notices without being told, whether the key is busy or idle."""
    header, record = await house.key()
    idle, busy = house.replica(), house.replica()
    for callers in (idle, busy):
        await callers.identify(header, IP)
    assert await house.records.write(msgspec.structs.replace(record, revoked_at=house.clock(), version=2))
    for _ in range(10):
        house.monotonic.advance(0.5)
        busy.cached(name_of(header))
        await settle(busy)
    for callers in (idle, busy):
        assert callers.cached(name_of(header)) is None
        assert (await refusal(callers, header)).kind is Kind.UNAUTHENTICATED


async def test_a_busy_key_is_refreshed_without_waiting(house: Any) -> None:
    """Its record is asked for in the background before the cached one gets too old."""
    header, record = await house.key()
    await house.callers.identify(header, IP)
    assert await house.records.write(msgspec.structs.replace(record, name="renamed", version=2))
    for _ in range(20):
        house.monotonic.advance(1)
        assert house.callers.cached(name_of(header)) is not None
        await settle(house.callers)
    caller = house.callers.cached(name_of(header))
    assert caller is not None
    assert caller.name == "renamed"


async def test_the_caller_of_an_unchanged_record_stays_the_same(house: Any) -> None:
    """What is remembered by it, and by its limits, need not be made anew at each refresh."""
    header, _ = await house.key()
    caller = await house.callers.identify(header, IP)
    asked_before = (await house.store.info("commandstats"))["cmdstat_hmget"]["calls"]
    for _ in range(20):
        house.monotonic.advance(1)
        assert house.callers.cached(name_of(header)) is caller
        await settle(house.callers)
    assert (await house.store.info("commandstats"))["cmdstat_hmget"]["calls"] > asked_before


async def test_many_requests_with_one_cold_key_ask_once(house: Any) -> None:
    """A herd shares one lookup."""
    header, _ = await house.key()
    await house.store.config_resetstat()
    callers = await asyncio.gather(*(house.callers.identify(header, IP) for _ in range(100)))
    assert len({id(c) for c in callers}) == 1
    assert (await house.store.info("commandstats"))["cmdstat_hmget"]["calls"] == 1


async def test_a_change_holds_at_once_where_it_was_made(house: Any) -> None:
    """forget() drops a key from memory."""
    header, record = await house.key()
    await house.callers.identify(header, IP)
    house.callers.forget("main", record.key_id)
    assert house.callers.cached(name_of(header)) is None


async def test_a_change_here_counts_even_while_the_record_is_being_read(house: Any, monkeypatch: Any) -> None:
    """What was read before the change, and comes after it, is not kept."""
    header, record = await house.key()
    load = house.records.load

    async def slow(*key: str) -> Any:
        found = await load(*key)
        assert await house.records.write(msgspec.structs.replace(record, revoked_at=house.clock(), version=2))
        house.callers.forget("main", record.key_id)
        return found

    monkeypatch.setattr(house.records, "load", slow)
    await house.callers.identify(header, IP)  # it came before the change
    monkeypatch.setattr(house.records, "load", load)
    assert house.callers.cached(name_of(header)) is None
    assert (await refusal(house.callers, header)).kind is Kind.UNAUTHENTICATED


async def test_a_key_ends_at_its_expiry_even_while_cached(house: Any) -> None:
    """Memory does not outlive the record's own end."""
    header, _ = await house.key(expires_at=house.clock() + 2)
    await house.callers.identify(header, IP)
    house.clock.advance(2)
    house.monotonic.advance(2)
    assert house.callers.cached(name_of(header)) is None
    assert (await refusal(house.callers, header)).kind is Kind.UNAUTHENTICATED


async def test_two_secrets_are_valid_while_a_rotation_overlaps(house: Any) -> None:
    """The former secret works until its end, the new one at once."""
    header, record = await house.key()
    text = mint("main", record.key_id).reveal().encode()
    former = msgspec.structs.replace(record.secrets[0], expires_at=house.clock() + 60)
    secrets = (StoredSecret(house.pepper.digest(text)), former)
    assert await house.records.write(msgspec.structs.replace(record, secrets=secrets, version=2))
    new = b"Bearer " + text
    assert (await house.callers.identify(header, IP)).key_id == (await house.callers.identify(new, IP)).key_id
    house.clock.advance(60)
    house.monotonic.advance(60)
    assert (await refusal(house.callers, header)).kind is Kind.UNAUTHENTICATED
    assert (await house.callers.identify(new, IP)).key_id == record.key_id


async def test_networks_are_checked_on_every_request(house: Any) -> None:
    """A key for some networks is never served from the fast lookup, which knows no address."""
    header, _ = await house.key(cidrs=("203.0.113.0/24", "2001:db8::/32"))
    assert (await house.callers.identify(header, IP)).networks
    assert house.callers.cached(name_of(header)) is None
    for good in ("203.0.113.200", "2001:db8::1", "::ffff:203.0.113.9"):
        await house.callers.identify(header, good)
    for bad in ("198.51.100.1", "2001:db9::1", "testclient", "", None):
        assert (await refusal(house.callers, header, bad)).kind is Kind.UNAUTHENTICATED


async def test_a_record_changed_in_the_store_is_worthless(house: Any) -> None:
    """Whoever can write to the store cannot widen a key without the pepper."""
    header, record = await house.key()
    name = f"{{t:main}}:k:{record.key_id}"
    text = await house.store.hget(name, "record")
    await house.store.hset(name, "record", text.replace(b'"role":"app"', b'"role":"admin"'))
    assert (await refusal(house.callers, header)).kind is Kind.UNAUTHENTICATED
    await house.store.hdel(name, "seal")
    assert (await refusal(house.callers, header)).kind is Kind.UNAUTHENTICATED


async def test_the_store_holds_no_secret(house: Any) -> None:
    """Neither the key nor an unkeyed hash of it is in the store."""
    header, record = await house.key()
    await house.callers.identify(header, IP)
    secret = header.rsplit(b"_", 1)[1]
    kept = await house.store.hgetall(f"{{t:main}}:k:{record.key_id}")
    assert secret not in b"".join(kept.values())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(b"authorization", b"Bearer a")], b"Bearer a"),
        ([(b"x-api-key", b"a")], b"Bearer a"),
        ([(b"x-api-key", b"a"), (b"authorization", b"Bearer b")], b"Bearer b"),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer a")], None),
        ([(b"x-api-key", b"a"), (b"x-api-key", b"b")], None),
        ([(b"host", b"x")], None),
    ],
)
def test_where_a_credential_is_looked_for(lines: list[tuple[bytes, bytes]], expected: bytes | None) -> None:
    """Authorization, else Anthropic's x-api-key, and never one of two."""
    assert credential(lines) == expected


@pytest.mark.parametrize(
    ("role", "may"), [(Role.APP, True), (Role.ADMIN, True), (Role.OPS, False), (Role.FINANCE, False)]
)
async def test_only_keys_for_inference_may_ask_models(house: Any, role: Role, may: bool) -> None:
    """Operators' and finance's keys are known, and refused with 403."""
    header, _ = await house.key(role=role)
    caller = await house.callers.identify(header, IP)
    if may:
        caller.require(Permission.INFER)
    else:
        with pytest.raises(CallerError) as caught:
            caller.require(Permission.INFER)
        assert caught.value.status == 403


async def test_memory_holds_a_bounded_number_of_callers(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was learned first makes room."""
    monkeypatch.setattr("gateway.callers.callers._KNOWN", 2)
    headers = [(await house.key())[0] for _ in range(3)]
    for header in headers:
        await house.callers.identify(header, IP)
    assert [house.callers.cached(name_of(header)) is not None for header in headers] == [False, True, True]


async def test_keys_in_use_survive_an_outage_of_the_store_for_a_minute(
    own_store: StoreServer, make_house: Any, clock: SetClock, monotonic: SetClock
) -> None:
    """Cached callers are served on, unknown ones get 503, and after the grace all do; then the store comes back."""
    client = own_store.client()
    house = make_house(client, clock, monotonic)
    callers = house.callers
    header, record = await house.key(name="kept")
    await callers.identify(header, IP)
    own_store.stop()
    for _ in range(58):
        monotonic.advance(1)
        assert (await callers.identify(header, IP)).name == "kept"
        await settle(callers)
    unknown = b"Bearer " + mint("main", new_key_id()).reveal().encode()
    error = await refusal(callers, unknown)
    assert isinstance(error, GatewayUnavailable)
    assert (error.status, error.retry_after_s) == (503, 1)
    monotonic.advance(3)
    assert callers.cached(name_of(header)) is None
    assert (await refusal(callers, header)).status == 503
    own_store.start()
    assert await house.records.write(record)
    assert (await callers.identify(header, IP)).name == "kept"
    await callers.close()
    await client.aclose()


async def test_a_known_caller_waits_a_moment_for_a_store_that_says_nothing(
    own_store: StoreServer, make_house: Any, clock: SetClock, monotonic: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as long as one whom nobody knows yet; and is not made to wait again a moment later."""
    monkeypatch.setattr(callers_module, "_LOOKUP_S", 60.0)
    client = own_store.client()
    house = make_house(client, clock, monotonic)
    header, _ = await house.key(name="kept")
    await house.callers.identify(header, IP)
    monotonic.advance(6)
    own_store.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            assert (await house.callers.identify(header, IP)).name == "kept"
        assert house.callers.cached(name_of(header)) is not None
        monotonic.advance(60)
        assert house.callers.cached(name_of(header)) is None
    finally:
        own_store.signal(signal.SIGCONT)
    await house.callers.close()
    await client.aclose()
