"""The embedded store: shared, restarted, stopped by the last one out, refused where it cannot be trusted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from books import until
from redis.exceptions import RedisError

from gateway.storage import embedded as module
from gateway.storage.client import Store, connect
from gateway.storage.embedded import EmbeddedStore, StoreFailed

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def using(data_dir: Path) -> AsyncIterator[Store]:
    embedded = EmbeddedStore(data_dir)
    await embedded.start()
    store = connect(embedded.socket)
    try:
        yield store
    finally:
        await store.aclose()
        await embedded.close()


async def pid_of(store: Store) -> int:
    info: dict[str, Any] = await store.execute_command("INFO", "server")
    return int(info["process_id"])


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()


async def test_data_survives_a_clean_stop(tmp_path: Path) -> None:
    """The last one out stops the server; the next one in finds the data."""
    async with using(tmp_path) as store:
        pid = await pid_of(store)
        await store.execute_command("SET", "a", "1")
    assert not alive(pid)
    async with using(tmp_path) as store:
        assert await store.execute_command("GET", "a") == b"1"
        assert await pid_of(store) != pid


async def test_it_is_kept_safe(tmp_path: Path) -> None:
    """Append-only file, nothing evicted, no TCP port, readable by this user alone."""
    async with using(tmp_path) as store:
        for name, value in {
            "appendonly": b"yes",
            "appendfsync": b"everysec",
            "auto-aof-rewrite-min-size": b"134217728",
            "rdbcompression": b"no",
            "maxmemory-policy": b"noeviction",
            "port": b"0",
            "save": b"",
        }.items():
            found = await store.execute_command("CONFIG", "GET", name)
            assert {k if isinstance(k, bytes) else k.encode(): v for k, v in found.items()}[name.encode()] == value
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "store" / "server.log").stat().st_mode & 0o777 == 0o600


async def test_several_processes_share_one_server(tmp_path: Path) -> None:
    """Started at the same moment, one of them starts it; it stops with the last."""
    ones = [EmbeddedStore(tmp_path) for _ in range(4)]
    await asyncio.gather(*(one.start() for one in ones))
    store = connect(ones[0].socket)
    pid = await pid_of(store)
    for one in ones[:3]:
        await one.close()
        assert alive(pid)
        assert await pid_of(store) == pid
    await store.aclose()
    await ones[3].close()
    assert not alive(pid)


async def test_a_dead_server_is_started_again(tmp_path: Path) -> None:
    """Whoever uses it notices, and what was written to the disk is there."""
    async with using(tmp_path) as store:
        pid = await pid_of(store)
        await store.execute_command("SET", "a", "1")
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while True:
            assert time.monotonic() < end
            try:
                assert await pid_of(store) != pid
                kept = await store.execute_command("GET", "a")  # refused while it loads
                break
            except RedisError:
                await asyncio.sleep(0.02)
        assert kept == b"1"


async def test_a_killed_gateway_leaves_the_server_to_the_next(tmp_path: Path) -> None:
    """It outlives the gateway that started it; the next one finds it and stops it in the end."""
    code = (
        "import asyncio, os, sys; from pathlib import Path; from gateway.storage.embedded import EmbeddedStore\n"
        "asyncio.run(EmbeddedStore(Path(sys.argv[1])).start()); os.kill(os.getpid(), 9)"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path), cwd=ROOT)
    assert await child.wait() == -signal.SIGKILL
    store = connect(EmbeddedStore(tmp_path).socket)
    pid = await pid_of(store)
    await store.aclose()
    async with using(tmp_path) as store:
        assert await pid_of(store) == pid
    await until(lambda: not alive(pid))


def ignores(pid: int, number: signal.Signals) -> bool:
    """Whether a process ignores a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) >> (number - 1) & 1)


async def test_a_signal_for_the_gateways_group_does_not_reach_the_server(tmp_path: Path) -> None:
    """Ctrl-C stops the gateway, which stops the server in its own time; a closing terminal does not stop it either."""
    async with using(tmp_path) as store:
        pid = await pid_of(store)
        assert os.getpgid(pid) == pid != os.getpgid(0)
        assert os.getsid(pid) == os.getsid(0)  # else the scheduler takes it for another user's work
        assert ignores(pid, signal.SIGHUP)


async def test_another_version_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions never share a data directory; one that nobody uses any more is replaced."""
    async with using(tmp_path) as store:
        pid = await pid_of(store)
        monkeypatch.setattr(module, "_binary_version", lambda binary: "0.0.1")
        with pytest.raises(StoreFailed, match=r"in use by gateways with Valkey .*brings Valkey 0\.0\.1"):
            await EmbeddedStore(tmp_path).start()
        assert alive(pid)


async def test_a_server_that_cannot_start_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own log tells why."""
    monkeypatch.setattr(module, "_arguments", lambda directory, socket: ["--no-such-setting", "x"])
    with pytest.raises(StoreFailed, match=r"server\.log"):
        await EmbeddedStore(tmp_path).start()


async def test_a_long_data_directory_gets_a_short_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path has 107 bytes at most; the fallback is this user's alone."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    deep = tmp_path / ("d" * 120)
    async with using(deep) as store:
        assert await store.execute_command("PING")
    assert (tmp_path / f"tiergate-{os.getuid()}").stat().st_mode & 0o777 == 0o700
    (tmp_path / f"tiergate-{os.getuid()}").chmod(0o755)
    with pytest.raises(StoreFailed, match="0700"):
        EmbeddedStore(deep)
