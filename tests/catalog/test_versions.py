"""Versions of the document in the store, and gateways that share them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from clocks import SetClock
from redis.asyncio import Redis
from stores import StoreServer

from gateway.catalog.living import LivingCatalog
from gateway.catalog.places import StorePlace
from gateway.catalog.problems import InvalidCatalog
from gateway.catalog.source import CatalogSource
from gateway.catalog.versions import KEPT, UnknownVersion, VersionConflict, Versions, version_of
from gateway.errors import CatalogError
from gateway.upstream.client import Upstream

Replica = Callable[..., "asyncio.Future[LivingCatalog]"]


@pytest.fixture
def versions(store: Redis, clock: SetClock) -> Versions:
    return Versions(store, clock)


@pytest.fixture
def document() -> str:
    """A small document, so that reading it takes no time worth speaking of."""
    return (
        "providers:\n  sandbox: {adapter: sandbox}\nmodels:\n  m:\n    capabilities: [text_input]\n"
        "    deployments: [{provider: sandbox, id: m}]\ntiers:\n  fast: {models: [m]}\n"
    )


@pytest.fixture
async def replica(store: Redis, clock: SetClock, tmp_path: Path, document: str) -> AsyncIterator[Replica]:
    """Starts gateways' catalogs, each with a file of its own."""
    async with AsyncExitStack() as stack:
        count = 0

        async def start(text: str = document, *, in_store: bool = True) -> LivingCatalog:
            nonlocal count
            count += 1
            path = tmp_path / str(count) / "catalog.yaml"
            path.parent.mkdir()
            path.write_text(text)
            upstream = Upstream(httpx.MockTransport(lambda request: httpx.Response(404)))
            source = CatalogSource(path, {}, clock)
            living = LivingCatalog(source, store, upstream, in_store=in_store, clock=clock, monotonic=time.monotonic)
            living.fleet.name = f"replica {count}"
            await living.start()
            stack.push_async_callback(living.close)
            return living

        yield start  # type: ignore[misc]


async def until(true: Callable[[], bool]) -> float:
    """Waits until it is true; gives the seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  # a snapshot tells nobody of its coming
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_what_is_published_is_kept_and_found(versions: Versions, clock: SetClock) -> None:
    """By its version, or a beginning of it; the newest publication comes first."""
    assert await versions.current() is None
    await versions.publish(b"one", by="k1", note="first")
    clock.at += 60
    await versions.publish(b"two", by="k2")
    assert await versions.current() == version_of(b"two")
    assert await versions.document(version_of(b"one")[:6]) == b"one"
    assert [(p.version, p.at, p.by, p.note) for p in await versions.history()] == [
        (version_of(b"two"), clock.at, "k2", ""),
        (version_of(b"one"), clock.at - 60, "k1", "first"),
    ]
    for unknown in ("ffffffffffff", ""):
        with pytest.raises(UnknownVersion):
            await versions.document(unknown)


async def test_publishing_what_is_in_force_changes_nothing(versions: Versions) -> None:
    """Each worker that has loaded a file says so."""
    await asyncio.gather(*(versions.publish(b"one", by="file") for _ in range(5)))
    assert len(await versions.history()) == 1


async def test_of_two_changes_of_the_same_version_one_is_refused(versions: Versions) -> None:
    """Nobody's edit is lost unnoticed."""
    await versions.publish(b"one", by="k")
    mine = await versions.publish(b"two", by="k", expected=version_of(b"one"))
    with pytest.raises(VersionConflict, match=mine.version):
        await versions.publish(b"three", by="k", expected=version_of(b"one"))
    assert await versions.current() == mine.version


async def test_old_documents_go_with_the_last_publication_that_names_them(versions: Versions, store: Redis) -> None:
    """One that was gone back to stays as long as that is remembered."""
    await versions.publish(b"first", by="k")
    for n in range(KEPT - 1):
        await versions.publish(b"%d" % n, by="k")
    await versions.publish(b"first", by="k", note="back")
    await versions.publish(b"last", by="k")
    assert len(await versions.history()) == KEPT
    assert await versions.document(version_of(b"first")) == b"first"
    with pytest.raises(UnknownVersion):
        await versions.document(version_of(b"0"))
    assert await store.hlen("{catalog}:documents") == KEPT


async def test_all_replicas_follow_what_one_publishes(replica: Replica, document: str) -> None:
    """Within seconds, back again too, and each says so for health."""
    one, two = await replica(), await replica()
    first = one.source.current.version
    changed = document + "default_tier: fast\n"
    snapshot = await one.source.publish(changed.encode(), by="k", note="")
    assert one.source.current.default_tier == "fast"
    assert await until(lambda: two.source.current.version == snapshot.version) < 10
    await two.fleet.step()
    assert {m.name: m.version for m in await one.fleet.members()}["replica 2"] == snapshot.version
    await two.source.publish(await two.versions.document(first), by="k", note="back")
    await until(lambda: one.source.current.version == first)


async def test_a_replica_that_ends_is_listed_no_longer(replica: Replica) -> None:
    """At once, not when its silence is noticed."""
    one, two = await replica(), await replica()
    assert [member.name for member in await one.fleet.members()] == ["replica 1", "replica 2"]
    await two.close()
    assert [member.name for member in await one.fleet.members()] == ["replica 1"]


async def test_a_new_replica_begins_with_what_is_published(replica: Replica, document: str) -> None:
    """Not with its own file; only the first gateway's file is published."""
    one = await replica()
    two = await replica(document.replace("fast:", "slow:"))
    assert "fast" in two.source.current.tiers
    assert two.source.current.version == one.source.current.version
    assert len(await one.versions.history()) == 1


async def test_a_bad_document_takes_effect_nowhere(replica: Replica, document: str) -> None:
    """It is refused before it is written, with its line."""
    one, two = await replica(), await replica()
    with pytest.raises(InvalidCatalog, match=r":8: tiers.fast.models\[0\]: unknown model 'n'"):
        await one.source.publish(document.replace("[m]", "[n]").encode(), by="k", note="")
    assert await one.versions.current() == two.source.current.version
    assert len(await one.versions.history()) == 1


async def test_a_document_that_was_spoilt_in_the_store_changes_nothing(replica: Replica, versions: Versions) -> None:
    """Whoever writes past the gateway gets the last good version kept, and the problem told by every replica."""
    one = await replica()
    good = one.source.current
    await versions.publish(b"tiers: [", by="somebody")
    await until(lambda: one.source.problem is not None)
    assert one.source.current is good
    await one.fleet.step()
    (member,) = await one.fleet.members()
    assert member.version == good.version
    assert "not valid YAML" in str(member.problem)


async def test_a_document_that_is_damaged_in_the_store_is_told(replica: Replica, store: Redis) -> None:
    """The loop that looks for new versions goes on, and takes the next good one."""
    one = await replica()
    await store.hset("{catalog}:documents", "abcdefabcdef", b"not compressed")
    await store.set("{catalog}:current", "abcdefabcdef")
    await until(lambda: one.source.problem is not None)
    assert "changed in the store by another hand" in str(one.source.problem)
    await one.versions.publish(one.source.text + b"# next", by="k")
    await until(lambda: one.source.problem is None)


async def test_a_store_that_is_away_leaves_the_catalog_in_force(own_store: StoreServer, clock: SetClock) -> None:
    """What was published last is served by; nothing ends."""
    client = own_store.client()
    place = StorePlace(Versions(client, clock))
    await place.write(b"models: {}", expected="*", by="k", note="")
    assert await place.read() == b"models: {}"
    own_store.stop()
    with pytest.raises(InvalidCatalog, match="the store does not answer"):
        await place.read()
    await client.aclose()


async def test_in_a_file_the_document_is_replaced_whole(replica: Replica, document: str) -> None:
    """Publishing writes the file, and an edit made meanwhile by somebody else is not overwritten."""
    one = await replica(in_store=False)
    path = one.source.path
    path.chmod(0o640)
    await one.source.publish((document + "default_tier: fast\n").encode(), by="k", note="")
    assert path.read_text().endswith("default_tier: fast\n")
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in path.parent.iterdir()] == ["catalog.yaml"]
    version = one.source.current.version
    path.write_text(document + "# by hand\n")
    with pytest.raises(VersionConflict, match="was edited meanwhile"):
        await one.source.publish(document.encode(), by="k", note="", expected=version)
    assert path.read_text().endswith("# by hand\n")


async def test_documents_of_a_file_are_remembered_too(replica: Replica, document: str) -> None:
    """So that there is something to compare with and to go back to."""
    one = await replica(in_store=False)
    one.source.path.write_text(document + "# edited\n")
    edited = version_of((document + "# edited\n").encode())
    await until(lambda: one.source.current.version == edited)
    await one.fleet.step()
    assert [p.version for p in await one.versions.history()] == [edited, version_of(document.encode())]


async def test_a_published_catalog_that_cannot_take_effect_stops_the_start(
    replica: Replica, versions: Versions
) -> None:
    """A gateway does not run by another document than its fleet."""
    await versions.publish(b"models: 3", by="somebody")
    with pytest.raises(CatalogError, match="must be a mapping"):
        await replica()
