"""Which addresses may be used, in which order, and for how long they are remembered."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from raw_peer import listening, saying

from gateway.types import Endpoint, Origin, Timeouts
from gateway.upstream.engine import Engine, errors
from gateway.upstream.engine.addresses import Addresses, is_public

_ORIGIN = Origin("https", "api.test", 443)


class Names:
    """A resolver that the test steers."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self.down = False

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise OSError("no such host")
        return self.addresses


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    """Also where IPv6 embeds a public IPv4 address."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2002:7f00:1::",
        "not an address",
    ],
)
def test_all_others_are_not(address: str) -> None:
    """Loopback, private, link-local, metadata, multicast, documentation, and the like in disguise."""
    assert not is_public(address)


async def test_private_addresses_are_not_connected_to() -> None:
    """A name that resolves to loopback is refused before a socket is opened, unless permitted (case S25)."""
    async with listening(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as peer:
        engine = Engine(resolver=Names("127.0.0.1"))
        origin = Origin("http", "rebound.test", peer.port)
        with pytest.raises(errors.ConnectFailed, match="allow_private"):
            await engine.send(Endpoint(origin, "GET", "/", ()), b"", Timeouts())
        assert peer.accepted == 0
        permitted = replace(origin, allow_private=True)
        assert (await engine.send(Endpoint(permitted, "GET", "/", ()), b"", Timeouts())).status == 200
        await engine.aclose()


async def test_private_addresses_are_left_out_of_a_mixed_answer() -> None:
    """Only what is public is tried."""
    addresses = Addresses(Names("10.0.0.1", "1.1.1.1"), 60, lambda: 0.0)
    assert await addresses.of(_ORIGIN) == ["1.1.1.1"]


async def test_addresses_take_turns_and_families_alternate() -> None:
    """Each connection starts at the next address; IPv6 and IPv4 are tried by turns."""
    addresses = Addresses(Names("2606:4700::1", "2606:4700::2", "1.1.1.1", "1.0.0.1"), 60, lambda: 0.0)
    assert await addresses.of(_ORIGIN) == ["2606:4700::1", "1.1.1.1", "2606:4700::2", "1.0.0.1"]
    assert await addresses.of(_ORIGIN) == ["2606:4700::2", "1.1.1.1", "2606:4700::1", "1.0.0.1"]
    assert (await addresses.of(_ORIGIN))[0] == "1.1.1.1"


async def test_names_are_looked_up_once_a_minute_and_once_at_a_time() -> None:
    """Those who ask at the same moment share a lookup, and one's departure does not fail the others."""
    now, names = 0.0, Names("1.1.1.1")
    addresses = Addresses(names, 60, lambda: now)
    asking = [asyncio.create_task(addresses.of(_ORIGIN)) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert results[1:] == [["1.1.1.1"]] * 4
    now = 59.0
    await addresses.of(_ORIGIN)
    assert names.asked == 1
    now, names.addresses = 61.0, ["1.0.0.1"]
    assert await addresses.of(_ORIGIN) == ["1.0.0.1"]


async def test_a_resolver_outage_leaves_known_names_usable() -> None:
    """What was known is used on; what was not is an error, sent nowhere."""
    now, names = 0.0, Names("1.1.1.1")
    addresses = Addresses(names, 60, lambda: now)
    await addresses.of(_ORIGIN)
    now, names.down = 100.0, True
    assert await addresses.of(_ORIGIN) == ["1.1.1.1"]
    with pytest.raises(errors.ConnectFailed, match="could not be resolved"):
        await addresses.of(replace(_ORIGIN, host="new.test"))


async def test_a_silent_resolver_leaves_known_names_usable() -> None:
    """One request waits a moment for it, the next not at all; what it says in the end is used from then on."""
    now, answering = 0.0, asyncio.Event()
    said = ["1.1.1.1"]
    answering.set()

    async def resolver(host: str, port: int) -> list[str]:
        await answering.wait()
        return said

    addresses = Addresses(resolver, 60, lambda: now)
    await addresses.of(_ORIGIN)
    now, said = 100.0, ["1.0.0.1"]
    answering.clear()
    async with asyncio.timeout(2):
        assert await addresses.of(_ORIGIN) == ["1.1.1.1"]
    with contextlib.suppress(StopIteration):
        addresses.of(_ORIGIN).send(None)  # does not suspend
        pytest.fail("it waited again")
    answering.set()
    await asyncio.sleep(0.01)
    assert await addresses.of(_ORIGIN) == ["1.0.0.1"]
    await addresses.aclose()


async def test_a_dead_address_costs_no_request() -> None:
    """Where one address refuses, the next is tried; where all do, the request fails unsent."""
    names = Names("127.0.0.2", "127.0.0.1", "127.0.0.3")
    engine = Engine(resolver=names)
    async with listening(saying(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")) as peer:
        endpoint = Endpoint(Origin("http", "api.test", peer.port, allow_private=True), "GET", "/", ())
        for _ in range(3):
            assert (await engine.send(endpoint, b"", Timeouts())).status == 200
    with pytest.raises(errors.ConnectFailed):
        await engine.send(endpoint, b"", Timeouts())
    await engine.aclose()
    assert engine.open_connections == 0
