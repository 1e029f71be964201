"""Our gateway beside reference stacks in one run: CPU per request, throughput, added latency.

    python benchmarks/side_by_side.py [--reps 3] [--scale 1] [--targets j-raw-mini] [--workloads ...] [--out FILE]

The mock upstream, the load generator and the reference stacks are those of the bench named by TIERGATE_BENCH (default
`../shared/bench` beside the repository; its `install.sh` installs the stacks under $PEERS_DIR). Gateway and references
are pinned to core 0 in turn, upstream and load to core 1; CPU is that of the whole process tree, embedded store
included. Everything binds loopback and ends by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCH = Path(os.environ.get("TIERGATE_BENCH", ROOT.parent / "shared" / "bench"))
PORT = 18101
APP_KEY = "benchmark-app-key-0123456789"
ADMIN_TOKEN = "benchmark-admin-token-0123456789"
REFERENCE = "j-raw-mini"
VARIANTS = {  # name -> (tier asked for, whether the key is limited, workloads)
    "unlimited": ("gw-model", False, "json2k_sat,json100k_sat,sse50_burst,json2k_r500,sse_c200"),
    "limited": ("gw-model", True, "json2k_sat,sse50_burst"),
}
TRANSLATED = {"anthropic": "gw-claude", "gemini": "gw-gemini"}
"""Streams of another dialect: the bench's own upstream does not speak them, so its load generator is used alone."""


def start_gateway(folder: Path) -> subprocess.Popen[bytes]:
    """A gateway with shipped defaults on core 0."""
    settings = {
        "TIERGATE_APP_KEY": APP_KEY,
        "TIERGATE_ADMIN_TOKEN": ADMIN_TOKEN,
        "BENCH_UPSTREAM_KEY": "sk-upstream-000000000000000000000000",
    }
    command = ["taskset", "-c", "0", sys.executable, "-m", "gateway.cli", "serve", "--port", str(PORT)]
    command += ["--catalog", str(ROOT / "benchmarks" / "catalog.yaml"), "--data-dir", str(folder / "data")]
    log = (folder / "gateway.log").open("wb")
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log)


def wait_ready() -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the gateway did not become ready")


def limited_key() -> str:
    """A key with a hard budget, requests and tokens per minute that the benchmark never reaches."""
    body = {
        "name": "benchmark",
        "budget": {"usd": "1000000", "per": "day", "hard": True},
        "rpm": 10_000_000,
        "tpm": 1_000_000_000,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/admin/api/keys",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        key: str = json.load(answer)["key"]
        return key


def run_variant(name: str, pid: int, key: str, options: argparse.Namespace, out: Path) -> None:
    tier, _, workloads = VARIANTS[name]
    chosen = [w for w in workloads.split(",") if not options.workloads or w in options.workloads.split(",")]
    if not chosen:
        return
    command = [
        str(BENCH / "run.sh"),
        f"http://127.0.0.1:{PORT}",
        "--pid",
        str(pid),
        "--targets",
        f"direct,{options.targets}",
    ]
    command += ["--name", name, "--model", tier, "--header", f"Authorization: Bearer {key}", "--out", str(out)]
    command += ["--workloads", ",".join(chosen), "--reps", str(options.reps), "--scale", str(options.scale)]
    subprocess.run(command, check=True)


def run_translated(name: str, pid: int, options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Bursts of 50 events from an upstream of another dialect, each repetition a row as the bench writes them."""
    binary = Path(os.environ.get("BENCH_BIN", Path(tempfile.gettempdir()) / "gwbench-bin")) / "loadgen"
    message = {"role": "user", "content": "Tell me what changed. " * 60}
    body = {"model": TRANSLATED[name], "messages": [message], "stream": True, "max_tokens": 512}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(body))
    pids = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    command = ["taskset", "-c", "1", str(binary), "--port", str(PORT), "--path", "/v1/chat/completions"]
    command += ["--body", str(path), "--conns", "50", "--duration", str(round(4 * options.scale, 1)), "--warmup", "1"]
    command += ["--header", f"Authorization: Bearer {APP_KEY}", "--stream", "--chunks", "50"]
    command += ["--pids", ",".join([str(pid), *pids])]
    rows: list[dict[str, object]] = []
    for rep in range(options.reps):
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
        rows.append({**row, "target": name, "workload": "sse50_burst", "rep": rep, "run": name})
    return rows


def table(rows: list[dict[str, object]], variants: list[str]) -> str:
    """A line for each workload and variant: CPU, and its median ratio to the reference of the same repetition."""
    cpu: dict[tuple[str, str, str, int], float] = {}
    rate: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["workload"] == "-" or not row.get("gw_cpu_s"):
            continue
        work = str(row["workload"])
        count = row["chunks"] if work.startswith("sse") else row["done"]
        per = 50 if work.startswith("sse") else 1
        if count:
            micros = float(row["gw_cpu_s"]) / float(count) * 1e6 * per  # type: ignore[arg-type]
            cpu[str(row["run"]), str(row["target"]), work, int(row["rep"])] = micros  # type: ignore[call-overload]
            rate[str(row["target"]), work].append(float(row["rps"]))  # type: ignore[arg-type]
    lines = ["| variant | workload | CPU us | reference us | ratio | req/s |", "|---|---|---:|---:|---:|---:|"]
    for name in [*variants, *TRANSLATED]:
        beside = name if name in VARIANTS else "unlimited"
        for work in sorted({w for run, target, w, _ in cpu if run == name and target == name}):
            mine = {rep: v for (run, t, w, rep), v in cpu.items() if (run, t, w) == (name, name, work)}
            reference = {rep: v for (run, t, w, rep), v in cpu.items() if (run, t, w) == (beside, REFERENCE, work)}
            ratios = [mine[rep] / reference[rep] for rep in mine if rep in reference]
            if ratios:
                lines.append(
                    f"| {name} | {work} | {statistics.median(mine.values()):.0f} | "
                    f"{statistics.median(reference.values()):.0f} | {statistics.median(ratios):.2f} | "
                    f"{statistics.median(rate[name, work]):,.0f} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--targets", default=REFERENCE, help="further targets of the bench, e.g. j-raw-mini,litellm")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--workloads", default="", help="only these")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "side_by_side.jsonl")
    options = parser.parse_args()
    if not (BENCH / "run.sh").exists():
        raise SystemExit(f"no bench at {BENCH}: set TIERGATE_BENCH to a folder with run.sh")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.unlink(missing_ok=True)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="tiergate-bench-") as folder:
        upstream = subprocess.Popen(
            ["taskset", "-c", "1", sys.executable, str(ROOT / "benchmarks" / "translated_upstream.py"), "18001"]
        )
        gateway = start_gateway(Path(folder))
        try:
            wait_ready()
            keys = {False: APP_KEY, True: limited_key()}
            for name in options.variants.split(","):
                part = Path(folder) / f"{name}.jsonl"
                run_variant(name, gateway.pid, keys[VARIANTS[name][1]], options, part)
                if part.exists():
                    rows += [{**json.loads(line), "run": name} for line in part.read_text().splitlines()]
            if not options.workloads or "sse50_burst" in options.workloads.split(","):
                for name in TRANSLATED:
                    rows += run_translated(name, gateway.pid, options, Path(folder))
        finally:
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(30)
            upstream.terminate()
            upstream.wait()
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows, options.variants.split(",")))


if __name__ == "__main__":
    main()
