"""The whole gateway apart from its speed beside others: accounting on and off, first events, workers, memory, start.

    python -m benchmarks.whole [--long] [--only accounting,first_event,workers,memory,start] [--out FILE]

Needs the load generator and the provider of the bench (see README.md). The quick form takes some four minutes; the
long one repeats more and soaks for twenty minutes. Figures go to a table and, as JSON, to `results/whole.json`. What is
compared runs at the same time and is loaded in turn, a second or two each, so that drift of the machine hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gateways import (
    APP_KEY,
    BENCH,
    LOAD_CORE,
    PEERS,
    PORT,
    ROOT,
    UPSTREAM_PORT,
    Running,
    body,
    load,
    pace,
    running,
    start,
    upstream,
    wait_ready,
)

REFERENCE_PORT = PORT + 2


class Figure(NamedTuple):
    """One line of the table."""

    what: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the target is met; nothing where there is none."""
        if self.target is None:
            return ""
        wanted_low = not self.what.startswith("two workers")
        return "yes" if (self.value <= self.target) == wanted_low else "no"


def cpu_us(row: dict[str, Any], *, stream: bool) -> float:
    """CPU microseconds a request, or for each fifty events."""
    return float(row["gw_cpu_s"]) / float(row["chunks"] / 50 if stream else row["done"]) * 1e6


def start_reference(stack: ExitStack) -> list[int]:
    """The stack `j-raw-mini` of the bench, where it is installed: its processes."""
    python = PEERS / "stacks" / "bin" / "python"
    if not python.exists():
        return []
    command = ["taskset", "-c", "0", str(python), "-m", "uvicorn", "raw_mini:app", "--host", "127.0.0.1"]
    command += ["--port", str(REFERENCE_PORT), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command += ["--log-level", "warning"]
    environment = {**os.environ, "UPSTREAM": f"http://127.0.0.1:{UPSTREAM_PORT}", "PORT": str(REFERENCE_PORT)}
    process = subprocess.Popen(command, cwd=BENCH / "stacks", env={**environment, "PYTHONDONTWRITEBYTECODE": "1"})
    stack.callback(process.wait)
    stack.callback(process.terminate)
    time.sleep(1.5)
    return [process.pid]


def accounting(folder: Path, *, long: bool) -> list[Figure]:
    """CPU with accounting on, as shipped, against a ledger that keeps no books; each beside the reference."""
    figures = []
    with ExitStack() as stack:
        on = stack.enter_context(running(folder / "on"))
        off = stack.enter_context(running(folder / "off", port=PORT + 1, module="benchmarks.without_ledger"))
        reference = start_reference(stack)
        limited = on.limited_key()
        sides: dict[str, tuple[int, str, list[int]]] = {
            "off": (off.port, APP_KEY, off.pids),
            "unlimited": (on.port, APP_KEY, on.pids),
            "limited": (on.port, limited, on.pids),
        }
        if reference:
            sides["reference"] = (REFERENCE_PORT, APP_KEY, reference)
        for stream, work in ((False, "JSON 2 KB"), (True, "stream of 50 events")):
            pace()
            options = {
                "conns": 50 if stream else 64,
                "duration": 1.5,
                "warmup": 0.5,
                **({"chunks": 50} if stream else {}),
            }
            spent: dict[str, list[float]] = {name: [] for name in sides}
            for turn in range(15 if long else 5):
                for name in sides if turn % 2 else reversed(sides):
                    port, key, pids = sides[name]
                    row = load(port, body(folder, stream=stream), key=key, pids=pids, options=options, stream=stream)
                    spent[name].append(cpu_us(row, stream=stream))
            for name, values in spent.items():
                figures.append(Figure(f"CPU, {work}, {name}", statistics.median(values), "us"))
            for name, most in (("unlimited", 40), ("limited", 80)):
                ratios = [100 * (x / y - 1) for x, y in zip(spent[name], spent["off"], strict=True)]
                figures.append(Figure(f"accounting, {work}, {name}", statistics.median(ratios), "% more CPU", most))
            for name, most in (("unlimited", 2.5 if stream else 2.0), ("limited", 2.5)):
                if reference:
                    ratios = [x / y for x, y in zip(spent[name], spent["reference"], strict=True)]
                    figures.append(
                        Figure(f"beside the reference, {work}, {name}", statistics.median(ratios), "x", most)
                    )
    return figures


def first_event(folder: Path, *, long: bool) -> list[Figure]:
    """What the gateway adds to the time to the first event of 200 paced streams."""
    with running(folder / "first") as gateway:
        pace(ttft_us=100_000, gap_us=40_000)
        options = {"conns": 200, "chunks": 50, "duration": 5, "warmup": 2.5, "ramp": 2}
        options |= {"ideal-ttft-us": 100_000, "ideal-gap-us": 40_000}
        added: dict[str, list[float]] = {"p50": [], "p99": []}
        for _ in range(6 if long else 2):
            direct = load(UPSTREAM_PORT, body(folder, stream=True, model="mock-model"), options=options, stream=True)
            ours = load(gateway.port, body(folder, stream=True), pids=gateway.pids, options=options, stream=True)
            for name in added:
                added[name].append(ours["ttft_ms"][name] - direct["ttft_ms"][name])
    return [
        Figure("first event added at 200 paced streams, p50", statistics.median(added["p50"]), "ms", 0.5),
        Figure("first event added at 200 paced streams, p99", statistics.median(added["p99"]), "ms", 3.0),
    ]


def workers(folder: Path, *, long: bool) -> list[Figure]:
    """Two workers on two cores against one on one core.

    With fewer than four cores the load has none of its own: then both are kept below saturation, and what two can do is
    worked out of their CPU per request.
    """
    cores = os.cpu_count() or 1
    alone = cores < 4
    rates: dict[int, list[float]] = {1: [], 2: []}
    with ExitStack() as stack:
        ones: dict[int, Running] = {}
        for count in rates:
            on = "0" if count == 1 else "0,1" if alone else "0,2"
            settings = {"TIERGATE_WORKERS": str(count)}
            ones[count] = stack.enter_context(
                running(folder / f"w{count}", port=PORT + 2 + count, cores=on, **settings)
            )
        pace()
        options: dict[str, object] = {"conns": 64, "duration": 2, "warmup": 0.5}
        if alone:
            options["rate"] = 1_500
        for turn in range(9 if long else 4):
            for count in sorted(ones, reverse=bool(turn % 2)):
                gateway = ones[count]
                row = load(gateway.port, body(folder, stream=False), pids=gateway.pids, options=options)
                rates[count].append(count / cpu_us(row, stream=False) if alone else row["rps"])
    ratio = statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    how = "of their CPU per request: the load has no core of its own here" if alone else "requests per second"
    return [Figure("two workers on two cores against one", ratio, "x", 1.8, how)]


def memory(folder: Path, *, long: bool) -> list[Figure]:
    """Idle, with a thousand open streams, and over a soak of streams and answers that come and go.

    Of the last two the process's own memory counts: the log's segment is a mapped file that fills and starts anew.
    """
    minutes = 20.0 if long else 1.0
    with running(folder / "memory") as gateway:
        time.sleep(3)
        idle, own_mb = gateway.python_mb(), gateway.python_mb("RssAnon")
        pace(ttft_us=100_000, gap_us=200_000)
        with ExitStack() as stack:
            options = {"conns": 1000, "chunks": 50, "duration": 8, "warmup": 3, "ramp": 2}
            open_mb = peak_during(stack, gateway, lambda: load_apart(gateway, folder, options, stream=True))
        pace(ttft_us=20_000, gap_us=2_000)
        seen: list[tuple[float, float]] = []
        began = time.monotonic()
        while (at := time.monotonic() - began) < 60 * minutes + 10:
            for stream in (True, False):
                options = {"conns": 50, "duration": 2, "warmup": 0, **({"chunks": 50} if stream else {})}
                load(gateway.port, body(folder, stream=stream), options=options, stream=stream)
            if at > 10:  # pools and caches fill up first
                seen.append((at, gateway.python_mb("RssAnon")))
    third = max(1, len(seen) // 3)
    drift = statistics.median(mb for _, mb in seen[-third:]) - statistics.median(mb for _, mb in seen[:third])
    return [
        Figure("memory, idle", idle, "MB", 90),
        Figure("memory, 1,000 open streams", open_mb - own_mb, "MB more", 40),
        Figure("memory, drift over the soak", drift, "MB", 3.0, f"{minutes:g} minutes; an hour is the target"),
    ]


def load_apart(gateway: Running, folder: Path, options: dict[str, Any], *, stream: bool) -> subprocess.Popen[bytes]:
    """A load that runs beside what we do."""
    script = (
        "import json,sys; from pathlib import Path; from benchmarks.gateways import load; a=json.loads(sys.argv[1]);"
    )
    script += "load(a['port'], Path(a['body']), options=a['options'], stream=a['stream'])"
    given = {
        "port": gateway.port,
        "body": str(body(folder, stream=stream)),
        "options": options,
        "stream": stream,
    }
    command = ["taskset", "-c", str(LOAD_CORE), os.environ.get("PYTHON", "python3"), "-c", script, json.dumps(given)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def peak_during(stack: ExitStack, gateway: Running, begin: Callable[[], subprocess.Popen[bytes]]) -> float:
    """The most memory seen while a load runs."""
    process = begin()
    stack.callback(process.wait)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, gateway.python_mb("RssAnon"))
        time.sleep(0.2)
    return peak


def start_up(folder: Path, *, long: bool) -> list[Figure]:
    """From the command to ready, with the embedded store: a fresh data directory, and one that was used before."""
    took: dict[str, list[float]] = {"fresh": [], "used": []}
    for turn in range(9 if long else 3):
        for kind in took:
            began = time.monotonic()
            gateway = start(folder / f"start{turn}", port=PORT + 7)
            wait_ready(gateway.port)
            took[kind].append(time.monotonic() - began)
            gateway.stop()
    return [
        Figure(f"start to ready, {kind} data directory", statistics.median(seconds), "s", 1.5)
        for kind, seconds in took.items()
    ]


SECTIONS: dict[str, Callable[..., list[Figure]]] = {
    "accounting": accounting,
    "first_event": first_event,
    "workers": workers,
    "memory": memory,
    "start": start_up,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="repeat more, and soak for twenty minutes")
    parser.add_argument("--only", default=",".join(SECTIONS), help="some of the sections")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "whole.json")
    options = parser.parse_args()
    if not (BENCH / "run.sh").exists():
        raise SystemExit(f"no bench at {BENCH}: set TIERGATE_BENCH to a folder with run.sh")
    figures: list[Figure] = []
    print("| what | measured | target | met |\n|---|---:|---:|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="tiergate-bench-") as folder, upstream():
        for name in options.only.split(","):
            for figure in SECTIONS[name](Path(folder), long=options.long):
                figures.append(figure)
                target = "" if figure.target is None else f"{figure.target:g}"
                what = f"{figure.what} ({figure.note})" if figure.note else figure.what
                print(f"| {what} | {figure.value:,.2f} {figure.unit} | {target} | {figure.verdict} |", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**figure._asdict(), "met": figure.verdict} for figure in figures]
    options.out.write_text(json.dumps({"at": time.time(), "long": options.long, "figures": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
