"""What the benchmarks of the whole gateway share: starting one, its processes, and loads of the bench's generator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BENCH = Path(os.environ.get("TIERGATE_BENCH", ROOT.parent / "shared" / "bench"))
BINARIES = Path(os.environ.get("BENCH_BIN", Path(tempfile.gettempdir()) / "gwbench-bin"))
PEERS = Path(os.environ.get("PEERS_DIR", Path(tempfile.gettempdir()) / "peers"))
PORT = 18101
UPSTREAM_PORT = 18000
APP_KEY = "benchmark-app-key-0123456789"
ADMIN_TOKEN = "benchmark-admin-token-0123456789"
GATEWAY_CORE, LOAD_CORE = 0, 1


class Running:
    """A gateway under measurement."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    @property
    def pids(self) -> list[int]:
        """All its processes, the embedded store included."""
        return tree(self.process.pid)

    def limited_key(self) -> str:
        """A key with a hard budget, requests and tokens per minute that no benchmark comes near."""
        body = {
            "name": "benchmark",
            "budget": {"usd": "1000000", "per": "day", "hard": True},
            "rpm": 10_000_000,
            "tpm": 1_000_000_000,
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/admin/api/keys",
            json.dumps(body).encode(),
            {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            key: str = json.load(answer)["key"]
            return key

    def python_mb(self, kind: str = "VmRSS") -> float:
        """Resident megabytes of its Python processes; `RssAnon` leaves out mapped files, the write-ahead log's too."""
        return sum(resident_mb(pid, kind) for pid in self.pids if is_python(pid))

    def stop(self) -> None:
        """Ends it in its own way."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def start(
    folder: Path, *, port: int = PORT, cores: str = str(GATEWAY_CORE), module: str = "gateway.cli", **settings: str
) -> Running:
    """A gateway with shipped defaults, pinned to `cores`; ready or not."""
    environment = {
        "TIERGATE_APP_KEY": APP_KEY,
        "TIERGATE_ADMIN_TOKEN": ADMIN_TOKEN,
        "BENCH_UPSTREAM_KEY": "sk-upstream-000000000000000000000000",
        **settings,
    }
    command = ["taskset", "-c", cores, sys.executable, "-m", module, "serve", "--port", str(port)]
    command += ["--catalog", str(ROOT / "benchmarks" / "catalog.yaml"), "--data-dir", str(folder / "data")]
    folder.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with (folder / "gateway.log").open("ab") as log:  # like an installed one, it finds its modules compiled
        process = subprocess.Popen(command, cwd=ROOT, env={**inherited, **environment}, stdout=log, stderr=log)
    return Running(process, port)


def wait_ready(port: int = PORT, path: str = "/readyz", every_s: float = 0.01) -> None:
    """Returns once it answers.

    Raises:
        SystemExit: it does not within ten seconds.
    """
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2):
                return
        except OSError:
            time.sleep(every_s)
    raise SystemExit(f"nothing became ready on port {port}")


@contextmanager
def running(folder: Path, **given: Any) -> Iterator[Running]:
    """A gateway that is ready, and is ended."""
    gateway = start(folder, **given)
    try:
        wait_ready(gateway.port)
        yield gateway
    finally:
        gateway.stop()


@contextmanager
def upstream() -> Iterator[int]:
    """The bench's own provider on the load's core; gives its pid."""
    subprocess.run([str(BENCH / "run.sh"), "--help"], check=True, stdout=subprocess.DEVNULL)  # builds what is missing
    process = subprocess.Popen(
        ["taskset", "-c", str(LOAD_CORE), str(BINARIES / "mock"), "--port", str(UPSTREAM_PORT), "--model", "mock-model"]
    )
    try:
        wait_ready(UPSTREAM_PORT, "/__stats")
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def pace(*, ttft_us: int = 0, gap_us: int = 0, chunks: int = 50) -> None:
    """How the provider answers from now on."""
    query = f"latency_us=0&ttft_us={ttft_us}&gap_us={gap_us}&chunks={chunks}&coalesce=1"
    request = urllib.request.Request(f"http://127.0.0.1:{UPSTREAM_PORT}/__config?{query}", b"", method="POST")
    with urllib.request.urlopen(request, timeout=5):
        pass


def body(folder: Path, *, stream: bool, model: str = "gw-model") -> Path:
    """The bench's request of 2 KB, as a file."""
    path = folder / f"body-{model}-{int(stream)}.json"
    if not path.exists():
        code = f"import sys,bodies; sys.stdout.buffer.write(bodies.body({model!r}, 2048, {stream}))"
        path.write_bytes(subprocess.run([sys.executable, "-c", code], cwd=BENCH, check=True, stdout=-1).stdout)
    return path


def load(
    port: int,
    request: Path,
    *,
    key: str = APP_KEY,
    pids: list[int] | None = None,
    options: Mapping[str, object],
    stream: bool = False,
) -> dict[str, Any]:
    """One run of the load generator; `options` are its own (`conns`, `duration`, ...)."""
    command = ["taskset", "-c", str(LOAD_CORE), str(BINARIES / "loadgen"), "--port", str(port)]
    command += ["--path", "/v1/chat/completions", "--body", str(request), "--header", f"Authorization: Bearer {key}"]
    command += ["--stream"] * stream
    if pids:
        command += ["--pids", ",".join(map(str, pids))]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=3600).stdout)
    return done


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [pid, *(p for child in children for p in tree(int(child)))]


def is_python(pid: int) -> bool:
    """Whether it is one of ours; the store's short-lived children may be gone by now."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name.startswith("python")
    except OSError:
        return False


def resident_mb(pid: int, kind: str = "VmRSS") -> float:
    """Resident megabytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))
