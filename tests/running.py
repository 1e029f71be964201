"""A gateway of its own process, as an operator would start it, for tests that need the real thing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.storage.embedded import EmbeddedStore

ROOT = Path(__file__).parents[1]
APP_KEY = "test-app-key-0123456789abcdef"
ADMIN_TOKEN = "test-admin-token-0123456789abcdef"


@dataclass
class RunningGateway:
    """A gateway process that answers on `url`; its log goes to `log`."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    @property
    def store_socket(self) -> str:
        """Where its embedded store listens."""
        return EmbeddedStore(self.data_dir).socket

    def get(self, path: str, key: str = APP_KEY) -> tuple[int, bytes]:
        """Status and body of a GET."""
        request = urllib.request.Request(self.url + path, headers={"authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def stop(self, number: int = signal.SIGTERM, patience_s: float = 30) -> int:
        """Sends the signal and gives the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(patience_s)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_gateway(
    folder: Path, *, catalog: Path | None = None, env: dict[str, str] | None = None, workers: int = 1
) -> Iterator[RunningGateway]:
    """Starts a gateway with its data under `folder`, waits until it is ready, and stops it in the end."""
    gateway = start_gateway(folder, catalog=catalog, env=env, workers=workers)
    try:
        yield gateway
    finally:
        if gateway.process.poll() is None:
            gateway.process.send_signal(signal.SIGTERM)
            try:
                gateway.process.wait(30)
            except subprocess.TimeoutExpired:
                gateway.process.kill()
                gateway.process.wait()


def start_gateway(
    folder: Path, *, catalog: Path | None = None, env: dict[str, str] | None = None, workers: int = 1
) -> RunningGateway:
    """As `running_gateway`, for tests that end the process themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = folder / "gateway.log"
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "REDIS_URL"))}
    settings = {
        "TIERGATE_APP_KEY": APP_KEY,
        "TIERGATE_ADMIN_TOKEN": ADMIN_TOKEN,
        "TIERGATE_DRAIN_DEADLINE_S": "10",
        "TIERGATE_DISCOVER_EVERY_HOURS": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", str(port), "--data-dir", str(folder / "data")]
    command += ["--catalog", str(catalog or ROOT / "catalog.yaml"), "--workers", str(workers)]
    with log.open("ab") as out:
        written = out.tell()
        process = subprocess.Popen(command, env={**kept, **settings, **(env or {})}, stdout=out, stderr=out, cwd=ROOT)
    gateway = RunningGateway(process, port, folder / "data", log)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = log.read_bytes()[written:].decode()
            if "Address already in use" in said:  # somebody took the port since it was free
                return start_gateway(folder, catalog=catalog, env=env, workers=workers)
            raise RuntimeError(f"the gateway ended with {process.returncode}:\n{said}")
        with contextlib.suppress(OSError):
            if gateway.get("/readyz")[0] == 200:
                return gateway
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the gateway did not become ready:\n{log.read_text()}")
