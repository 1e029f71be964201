"""Where a host is: resolved, cached for a short time, and refused where the address is not a public one."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.types import Origin
from gateway.upstream.engine.errors import ConnectFailed

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to IP addresses, in order of preference; raises OSError where there are none."""

_MOST_HOSTS = 4096
_PATIENCE_S = 0.2
"""How long a lookup is waited for where addresses are known from before; then they are used while it goes on."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


async def system_resolver(host: str, port: int) -> list[str]:
    """The operating system's resolver, asked in a thread."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def is_public(address: str) -> bool:
    """Whether an IP address, or the IPv4 address that an IPv6 one embeds, is reachable over the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


@dataclass(slots=True)
class _Entry:
    addresses: list[str]
    until: float
    turn: int = 0
    overdue: bool = False
    """Whether the lookup after it has kept somebody waiting: nobody else waits before one has succeeded."""


class Addresses:
    """Looks hosts up, once for all who ask at the same time, and hands their addresses out in turn."""

    def __init__(self, resolver: Resolver, keep_s: float, clock: Callable[[], float]) -> None:
        self._resolver = resolver
        self._keep_s = keep_s
        self._clock = clock
        self._known: dict[tuple[str, int], _Entry] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[_Entry]] = {}

    async def of(self, origin: Origin) -> list[str]:
        """Permitted addresses in the order to try them: families alternate, and each call starts at the next one.

        Raises:
            ConnectFailed: the name does not resolve, or resolves only to addresses that are not permitted.
        """
        entry = await self._entry(origin.host, origin.port)
        permitted = entry.addresses if origin.allow_private else [a for a in entry.addresses if is_public(a)]
        if not permitted:
            raise ConnectFailed(
                f"{origin.host} resolves only to non-public addresses, and allow_private is not set for it"
            )
        turn = entry.turn % len(permitted)
        entry.turn += 1
        return _alternating(permitted[turn:] + permitted[:turn])

    async def _entry(self, host: str, port: int) -> _Entry:
        key = (host, port)
        known = self._known.get(key)
        if known is not None and known.until > self._clock():
            return known
        lookup = self._lookups.get(key) or self._look_up(key)
        if known is None:
            try:
                return await asyncio.shield(lookup)  # one asker's departure must not fail the others
            except (OSError, UnicodeError):
                raise ConnectFailed(f"the name {host} could not be resolved") from None
        # A resolver that is out or silent must not take down a provider that is up.
        if not known.overdue:
            await asyncio.wait((lookup,), timeout=_PATIENCE_S)
            known.overdue = not lookup.done()
        return self._known.get(key, known)

    def _look_up(self, key: tuple[str, int]) -> asyncio.Task[_Entry]:
        lookup = self._lookups[key] = asyncio.ensure_future(self._asked(key))
        lookup.add_done_callback(lambda done: self._looked_up(key, done))
        return lookup

    async def _asked(self, key: tuple[str, int]) -> _Entry:
        addresses = await self._resolver(*key)
        known = self._known.get(key)
        entry = _Entry(addresses, self._clock() + self._keep_s, known.turn if known else 0)
        if len(self._known) >= _MOST_HOSTS:
            self._known.clear()
        self._known[key] = entry
        return entry

    def _looked_up(self, key: tuple[str, int], task: asyncio.Task[_Entry]) -> None:
        del self._lookups[key]
        if not task.cancelled():
            task.exception()  # seen by those who still wait; nobody may be left

    async def aclose(self) -> None:
        """Ends lookups that nobody waits for any more."""
        lookups = list(self._lookups.values())
        for task in lookups:
            task.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)


def _alternating(addresses: list[str]) -> list[str]:
    """IPv6 and IPv4 taking turns, so that a broken family costs one head start (RFC 8305, section 4)."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    second = [a for a in addresses if (":" in a) != (":" in addresses[0])]
    mixed: list[str] = []
    for i in range(max(len(first), len(second))):
        mixed += first[i : i + 1] + second[i : i + 1]
    return mixed
