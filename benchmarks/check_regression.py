"""Fails where a micro-benchmark has become slower than the baseline, whatever machine it runs on.

    python -m benchmarks.check_regression            # exit status 1 where something is more than 15 % slower
    python -m benchmarks.check_regression --update   # makes today's figures the baseline

Each figure is a ratio: the work's time to that of a fixed loop measured in turn with it, the median of several turns.
What seems slower is measured again before it counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from timeit import timeit

import msgspec

from benchmarks import micro_chat, micro_routing

BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCE = 0.15
_SLICE_S = 0.005
_TURNS = 25
_TRIES = 6
_LEAST = 0.02
"""What takes a smaller part of the loop's time is too short to be measured well, and too short to matter."""


class _Thing:
    __slots__ = ("name", "value")

    def __init__(self, name: str, value: int) -> None:
        self.name = name
        self.value = value


def _calibrate() -> int:
    """Work of the kind that the gateway does: objects, dictionaries, calls, and some JSON."""
    total = 0
    for number in range(50):
        thing = _Thing("thing", number)
        total += {"name": thing.name, "value": thing.value}["value"]  # type: ignore[operator]
    return total + len(msgspec.json.decode(msgspec.json.encode({"values": [{"a": 1, "b": "text"}] * 10})))


def ratio(work: Callable[[], object]) -> float:
    """The work's time in units of the calibration loop's."""
    rounds = max(1, int(_SLICE_S / max(timeit(work, number=3) / 3, 1e-7)))
    loops = max(1, int(_SLICE_S / (timeit(_calibrate, number=20) / 20)))
    turns = [(timeit(work, number=rounds) / rounds, timeit(_calibrate, number=loops) / loops) for _ in range(_TURNS)]
    return median(spent / loop for spent, loop in turns)  # of turns: what is measured together had the same clock rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    update = parser.parse_args().update
    cases = {**micro_chat.cases(), **micro_routing.cases()}
    if update:
        measured = {name: round(median(ratio(work) for _ in range(5)), 4) for name, work in cases.items()}
        measured = {name: figure for name, figure in measured.items() if figure >= _LEAST}
        BASELINE.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=2) + b"\n")
        return 0
    baseline = msgspec.json.decode(BASELINE.read_bytes(), type=dict[str, float])
    if gone := sorted(baseline.keys() - cases.keys()):
        print(f"the baseline has benchmarks that are no more: {gone}; run with --update")
        return 1
    slower = 0
    for name, work in cases.items():
        if name not in baseline:
            continue
        limit = baseline[name] * (1 + TOLERANCE)
        now = ratio(work)
        for _ in range(_TRIES):
            if now <= limit:
                break
            now = min(now, ratio(work))
        change = now / baseline[name] - 1
        print(f"{name:<58} {now:8.3f}  {change:+6.1%}{'  SLOWER' if now > limit else ''}")
        slower += now > limit
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
