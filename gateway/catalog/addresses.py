"""Which addresses the catalog may send calls to. Names are judged here; what they resolve to, by the HTTP engine."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

_INTERNAL_NAMES = ("localhost", "metadata.google.internal", "metadata")
_INTERNAL_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")


def check_base_url(url: str, *, allow_private: bool) -> str:
    """The URL without its trailing slash.

    Raises:
        ValueError: not a plain http(s) address, or one inside our own network that was not allowed; says why.
    """
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("has blanks or control characters; write a plain address")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not an address; write it like https://api.example.com/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with https:// or http:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or password; credentials belong in api_key as env:NAME or file:/path")
    if "?" in url or "#" in url:
        raise ValueError("has a query or fragment; leave it out (API versions go into options)")
    if port == 0:
        raise ValueError("names port 0; name the port that the server listens on")
    if not allow_private and (reason := _internal(parts.hostname)):
        raise ValueError(f"names {reason}; if that is meant, add allow_private: true")
    return url.rstrip("/")


def _internal(host: str) -> str | None:
    """What is internal about a host, or None."""
    host = host.rstrip(".").lower()
    if host in _INTERNAL_NAMES or host.endswith(_INTERNAL_SUFFIXES):
        return f"the internal host {host}"
    address = _literal(host)
    if address is None or (address.is_global and not address.is_multicast):
        return None
    return f"the private, loopback or link-local address {address}"


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host spells out, in any spelling that resolvers take: 127.1, 0x7f000001, ::ffff:10.0.0.1."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address
