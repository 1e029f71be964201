"""Addresses of stores, and how a client for each behaves when its server does not."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from gateway.storage.client import StoreTooOld, connect, server_version


def options(store: Any) -> dict[str, Any]:
    found: dict[str, Any] = store.connection_pool.connection_kwargs
    return found


async def test_a_socket_path_is_an_address() -> None:
    """As is its URL."""
    assert options(connect("/run/x.sock"))["path"] == "/run/x.sock"
    assert options(connect("unix:///run/x.sock?db=2"))["db"] == 2


async def test_a_tls_url_verifies_with_an_acl_user() -> None:
    """rediss:// checks certificates; user and password come from the URL."""
    store = connect("rediss://gate:s%40crt@store.example:6380/1")
    assert isinstance(store, Redis)
    assert store.connection_pool.connection_class is SSLConnection
    found = options(store)
    assert (found["username"], found["password"], found["db"], found["port"]) == ("gate", "s@crt", 1, 6380)
    assert found.get("ssl_cert_reqs", "required") == "required"


async def test_sentinels_are_asked_for_their_master() -> None:
    """Hosts, master's name, database and the master's user."""
    store = connect("redis+sentinel://gate:pw@s1.example:26380,s2.example/main-store/3")
    assert isinstance(store, Redis)
    pool = store.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "main-store"
    nodes = [options(s) for s in pool.sentinel_manager.sentinels]
    assert [(n["host"], n["port"]) for n in nodes] == [("s1.example", 26380), ("s2.example", 26379)]
    assert (options(store)["username"], options(store)["db"]) == ("gate", 3)


async def test_a_cluster_has_a_client_of_its_own() -> None:
    """It finds the other nodes by the first."""
    store = connect("redis+cluster://c1.example:7000")
    assert isinstance(store, RedisCluster)
    await store.aclose()


@pytest.mark.parametrize("address", ["http://x:pw@y", "localhost:6379", "redis+sentinel://h", "redis+sentinel:///m"])
def test_other_addresses_are_refused_without_repeating_them(address: str) -> None:
    """An address may hold a password."""
    with pytest.raises(ValueError, match="the store's address") as refused:
        connect(address)
    assert "pw" not in str(refused.value)


async def test_a_silent_server_is_given_up_soon() -> None:
    """No retries of the library's own: one that accepts and says nothing costs one time limit."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        store = connect(f"redis://127.0.0.1:{server.getsockname()[1]}?socket_timeout=0.2")
        started = time.monotonic()
        with pytest.raises((RedisError, TimeoutError)):
            await store.execute_command("PING")
        assert time.monotonic() - started < 5.0
        await store.aclose()


async def test_an_old_server_is_refused() -> None:
    """Redis 6.2 is the oldest with every command that is used."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(4096):
            if b"INFO" in command:
                text = b"# Server\r\nredis_version:6.0.16\r\n"
                writer.write(b"$%d\r\n%b\r\n" % (len(text), text))
            else:
                writer.write(b"+OK\r\n" * max(1, command.count(b"*")))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        store = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}?protocol=2")
        with pytest.raises(StoreTooOld, match=r"6\.0"):
            await server_version(store)
        await store.aclose()


async def test_this_server_is_new_enough(store: Redis) -> None:
    """Valkey names the Redis version it is compatible with."""
    assert await server_version(store) >= (6, 2)
