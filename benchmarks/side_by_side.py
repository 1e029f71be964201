"""Our gateway beside reference stacks in one run: CPU per request, throughput, added latency.

    python -m benchmarks.side_by_side [--reps 3] [--scale 1] [--targets j-raw-mini] [--workloads ...] [--out FILE]

The mock upstream, the load generator and the reference stacks are those of the bench named by TIERGATE_BENCH (default
`../shared/bench` beside the repository; its `install.sh` installs the stacks under $PEERS_DIR). Gateway and references
are pinned to core 0 in turn, upstream and load to core 1; CPU is that of the whole process tree, embedded store
included. Everything binds loopback and ends by itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.gateways import APP_KEY, BENCH, PEERS, PORT, ROOT, load, start, tree, wait_ready

REFERENCE = "j-raw-mini"
VARIANTS = {  # name -> (tier asked for, whether the key is limited, workloads)
    "unlimited": ("gw-model", False, "json2k_sat,json100k_sat,sse50_burst,json2k_r500,sse_c200"),
    "limited": ("gw-model", True, "json2k_sat,sse50_burst"),
    "peers": ("gw-model", False, "json2k_sat,sse50_burst"),
}
"""The last runs beside the other gateways that are installed."""
INSTALLED = {  # peer of the bench -> what is there once it is installed
    "nginx": shutil.which("nginx"),
    "haproxy": shutil.which("haproxy"),
    "litellm": PEERS / "litellm" / "bin" / "litellm",
    "mlflow": PEERS / "mlflow" / "bin" / "mlflow",
    "portkey": PEERS / "portkey" / "node_modules" / "@portkey-ai",
    "tensorzero": PEERS / "tensorzero" / "bin" / "python",
    "smg": PEERS / "sgl" / "bin" / "smg",
}
TRANSLATED = {"anthropic": "gw-claude", "gemini": "gw-gemini"}
"""Streams of another dialect: the bench's own upstream does not speak them, so its load generator is used alone."""


def installed() -> list[str]:
    """The peers that can be measured on this machine."""
    return [name for name, there in INSTALLED.items() if there is not None and Path(there).exists()]


def run_variant(name: str, pid: int, key: str, options: argparse.Namespace, out: Path) -> None:
    tier, _, workloads = VARIANTS[name]
    targets = ",".join([options.targets, *(installed() if name == "peers" else ())])
    if name == "peers" and not installed():
        return
    chosen = [w for w in workloads.split(",") if not options.workloads or w in options.workloads.split(",")]
    if not chosen:
        return
    command = [
        str(BENCH / "run.sh"),
        f"http://127.0.0.1:{PORT}",
        "--pid",
        str(pid),
        "--targets",
        f"direct,{targets}",
    ]
    command += ["--name", name, "--model", tier, "--header", f"Authorization: Bearer {key}", "--out", str(out)]
    command += ["--workloads", ",".join(chosen), "--reps", str(options.reps), "--scale", str(options.scale)]
    command += ["--retries", str(options.retries)]
    subprocess.run(command, check=True)


def run_translated(name: str, pid: int, options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Bursts of 50 events from an upstream of another dialect, each repetition a row as the bench writes them."""
    message = {"role": "user", "content": "Tell me what changed. " * 60}
    body = {"model": TRANSLATED[name], "messages": [message], "stream": True, "max_tokens": 512}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(body))
    given = {"conns": 50, "duration": round(4 * options.scale, 1), "warmup": 1, "chunks": 50}
    rows: list[dict[str, object]] = []
    for rep in range(options.reps):
        row = load(PORT, path, pids=tree(pid), options=given, stream=True)
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
    return "\n".join([*lines, *peers(cpu)])


def peers(cpu: dict[tuple[str, str, str, int], float]) -> list[str]:
    """A line for each other gateway and workload: its CPU beside ours, ours with accounting on and theirs without."""
    lines = ["", "| peer | workload | CPU us | ours | times ours |", "|---|---|---:|---:|---:|"]
    for target, work in sorted({(t, w) for run, t, w, _ in cpu if run == "peers" and t not in ("peers", REFERENCE)}):
        theirs = {rep: v for (run, t, w, rep), v in cpu.items() if (run, t, w) == ("peers", target, work)}
        ours = {rep: v for (run, t, w, rep), v in cpu.items() if (run, t, w) == ("peers", "peers", work)}
        both = [rep for rep in theirs if rep in ours]
        if both:
            ratio = statistics.median(theirs[rep] / ours[rep] for rep in both)
            lines.append(
                f"| {target} | {work} | {statistics.median(theirs.values()):,.0f} | "
                f"{statistics.median(ours.values()):,.0f} | {ratio:.1f} |"
            )
    return lines if len(lines) > 3 else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--retries", type=int, default=2, help="of what was measured while others used the machine")
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
        gateway = start(Path(folder))
        try:
            wait_ready()
            keys = {False: APP_KEY, True: gateway.limited_key()}
            for name in options.variants.split(","):
                part = Path(folder) / f"{name}.jsonl"
                run_variant(name, gateway.process.pid, keys[VARIANTS[name][1]], options, part)
                if part.exists():
                    rows += [{**json.loads(line), "run": name} for line in part.read_text().splitlines()]
            if not options.workloads or "sse50_burst" in options.workloads.split(","):
                for name in TRANSLATED:
                    rows += run_translated(name, gateway.process.pid, options, Path(folder))
        finally:
            gateway.stop()
            upstream.terminate()
            upstream.wait()
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows, options.variants.split(",")))


if __name__ == "__main__":
    main()
