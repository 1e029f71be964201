"""The race for the first connection among several addresses."""

from __future__ import annotations

import asyncio

import pytest

from gateway.upstream.engine.dial import dial
from gateway.upstream.engine.errors import ConnectFailed


class Connected:
    def __init__(self, address: str) -> None:
        self.address = address
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


class Network:
    """Addresses that answer after a while, refuse (a negative while), or never answer (None)."""

    def __init__(self, **delays_s: float | None) -> None:
        self.delays_s = delays_s
        self.tried: list[str] = []
        self.made: list[Connected] = []
        self.stubborn = False

    async def connect(self, address: str) -> Connected:
        self.tried.append(address)
        delay_s = self.delays_s[address]
        try:
            await asyncio.sleep(3600 if delay_s is None else abs(delay_s))
        except asyncio.CancelledError:
            if not self.stubborn:
                raise
        if delay_s is not None and delay_s < 0:
            raise ConnectFailed(address)
        self.made.append(Connected(address))
        return self.made[-1]


async def test_the_first_address_has_a_head_start() -> None:
    """Where it answers within that, no other is tried."""
    network = Network(a=0.001, b=0.0)
    assert (await dial(["a", "b"], network.connect, 0.5)).address == "a"
    assert network.tried == ["a"]


async def test_a_silent_address_is_overtaken() -> None:
    """The next one starts after the head start and wins."""
    network = Network(a=None, b=0.001)
    assert (await dial(["a", "b"], network.connect, 0.02)).address == "b"


async def test_a_refusal_starts_the_next_at_once() -> None:
    """Nothing is gained by waiting for an address that has said no."""
    network = Network(a=-0.001, b=0.001)
    assert (await asyncio.wait_for(dial(["a", "b"], network.connect, 3600), 5)).address == "b"


async def test_a_slow_address_may_still_win() -> None:
    """Attempts already begun go on beside the later ones."""
    network = Network(a=0.05, b=None, c=-0.001)
    assert (await dial(["a", "b", "c"], network.connect, 0.01)).address == "a"


async def test_all_refusing_is_an_error() -> None:
    """The first one's reason is told."""
    with pytest.raises(ConnectFailed, match=r"^a$"):
        await dial(["a", "b"], Network(a=-0.02, b=-0.001).connect, 0.001)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_is_connected_too_late_is_dropped(cancelled: bool) -> None:
    """Also where the attempt succeeds although it was cancelled, and where nobody waits any more."""
    network = Network(a=None, b=None if cancelled else 0.001)
    network.stubborn = True
    dialling = asyncio.create_task(dial(["a", "b"], network.connect, 0.01))
    await asyncio.sleep(0.05)
    dialling.cancel()
    results = await asyncio.gather(dialling, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert [made for made in network.made if not made.dropped] == [r for r in results if isinstance(r, Connected)]
    assert len(network.made) == 2
