"""The brake on guessing keys."""

from __future__ import annotations

import pytest
from clocks import SetClock

from gateway.callers.throttle import Throttle


def test_a_burst_is_free_and_then_it_drips(monotonic: SetClock) -> None:
    """Three tries at once, then one each two seconds."""
    throttle = Throttle(monotonic, burst=3, per_s=0.5)
    for _ in range(3):
        assert throttle.wait_s("a") == 0
        throttle.failed("a")
    assert throttle.wait_s("a") == pytest.approx(2)
    monotonic.advance(2)
    assert throttle.wait_s("a") == 0
    throttle.failed("a")
    assert throttle.wait_s("a") == pytest.approx(2)


def test_clients_are_apart_and_an_ipv6_client_is_its_network(monotonic: SetClock) -> None:
    """Whoever has a /64 does not get 2^64 bursts."""
    throttle = Throttle(monotonic, burst=1)
    throttle.failed("2001:db8::1")
    assert throttle.wait_s("2001:db8::ffff") > 0
    assert throttle.wait_s("2001:db8:0:1::1") == 0
    assert throttle.wait_s("203.0.113.7") == 0


def test_memory_is_bounded(monotonic: SetClock) -> None:
    """The client that has been quiet longest makes room."""
    throttle = Throttle(monotonic, burst=1, clients=2)
    for client in ("a", "b", "c"):
        throttle.failed(client)
    assert [throttle.wait_s(client) > 0 for client in ("a", "b", "c")] == [False, True, True]


@pytest.mark.parametrize("client", [None, "", "::junk::", "fe80::1%eth0"])
def test_any_address_will_do(monotonic: SetClock, client: str | None) -> None:
    """What the server gives as an address is not trusted to be one."""
    throttle = Throttle(monotonic, burst=1)
    throttle.failed(client)
    assert throttle.wait_s(client) > 0
