"""Connections to Redis or Valkey, with the timeouts that a request path needs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

Store = Redis | RedisCluster

OLDEST = (6, 2)

# The library's own retries hide a dead server for minutes; whoever calls decides what to repeat.
_OPTIONS: dict[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0, "socket_keepalive": True}


class StoreTooOld(Exception):
    """The server lacks commands that the gateway needs."""


def connect(address: str) -> Store:
    """A client for a store; it connects on first use.

    `address` is the path of a unix socket or a URL: `redis://` or `rediss://` (TLS; `ssl_ca_certs=` and the like in the
    query), `unix://`, `redis+sentinel://user:password@host:26379,host2:26379/<master name>/<db>` (`rediss+sentinel://`
    for TLS), or `redis+cluster://host:port` (`rediss+cluster://`). User and password are an ACL user's.

    Raises:
        ValueError: the address is none of these; the message does not repeat it, since it may hold a password.
    """
    if address.startswith("/"):
        options = {**_OPTIONS, "retry": _never()}
        del options["socket_keepalive"]
        return Redis(unix_socket_path=address, **options)
    scheme = address.partition("://")[0].lower()
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _sentinel(address, tls=scheme.startswith("rediss"))
    if scheme in ("redis+cluster", "rediss+cluster"):
        url = address.replace("+cluster", "", 1)
        client: RedisCluster = RedisCluster.from_url(url, retry=_never(), **_OPTIONS)
        return client
    if scheme == "unix":
        return Redis.from_url(address, retry=_never(), socket_timeout=5.0, socket_connect_timeout=2.0)
    if scheme in ("redis", "rediss"):
        return Redis.from_url(address, retry=_never(), **_OPTIONS)
    raise ValueError(
        "the store's address must be a socket path or begin with redis://, rediss://, unix://, redis+sentinel:// or "
        f"redis+cluster://, not with {scheme[:20]!r}"
    )


async def server_version(store: Store) -> tuple[int, int]:
    """The server's Redis version (Valkey names the Redis version it is compatible with).

    Raises:
        StoreTooOld: it is older than 6.2.
    """
    info: dict[str, Any] = await store.execute_command("INFO", "server")
    if "redis_version" not in info:  # a cluster client answers by node
        info = next(iter(info.values()))
    major, minor = str(info["redis_version"]).split(".")[:2]
    version = int(major), int(minor)
    if version < OLDEST:
        raise StoreTooOld(f"the store is Redis {major}.{minor}; the gateway needs 6.2 or later, or Valkey")
    return version


def _never() -> Retry:
    return Retry(NoBackoff(), 0)


def _sentinel(address: str, *, tls: bool) -> Redis:
    parts = urlsplit(address)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    path = parts.path.strip("/").split("/")
    if not path[0]:
        raise ValueError("the store's address names no master: want redis+sentinel://host:26379/<master name>")
    nodes = []
    for host in hosts.split(","):
        node = urlsplit(urlunsplit(("redis", host, "", "", "")))
        if not node.hostname:
            raise ValueError("the store's address names no sentinel: want redis+sentinel://host:26379/<master name>")
        nodes.append((node.hostname, node.port or 26379))
    options: dict[str, Any] = {**_OPTIONS, "retry": _never(), "db": int(path[1]) if len(path) > 1 else 0}
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    if tls:
        options["ssl"] = True
        options |= {name: values[-1] for name, values in parse_qs(parts.query).items() if name.startswith("ssl_")}
    client: Redis = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves its constructor untyped
        nodes, **_OPTIONS
    ).master_for(unquote(path[0]), **options)
    return client
