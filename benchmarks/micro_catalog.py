"""What a catalog of 1,000 models costs each request, in microseconds of CPU. Run: `python -m benchmarks.micro_catalog`.

The catalog is compiled from a document, as a gateway does it. Ends with status 1 where a figure is above its bar.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from timeit import repeat

import msgspec

from benchmarks.catalog_reload import MODELS, document
from gateway.catalog.load import compile_text
from gateway.catalog.snapshot import Snapshot
from gateway.chat import parse_chat
from gateway.errors import CallerError
from gateway.ledger.cost import cost_nano
from gateway.routing.needs import infer_needs
from gateway.routing.plan import Planner
from gateway.routing.resolve import resolve
from gateway.types import Facts, Options, Stats, Usage

NOW = 1_795_000_000.0
LOOKUP_US, PRICING_US, PLAN_US = 20.0, 10.0, 100.0
UNKNOWN_US = 1_000.0
"""A name that there is not is answered with the nearest ones, an error that must not hold others up."""
ROUNDS = 500

Case = tuple[Callable[[], object], float]


def main() -> int:
    """Prints a table of the figures beside their bars; 1 where one is missed."""
    missed = False
    for name, (work, bar_us) in cases().items():
        took_us = min(repeat(work, timer=time.process_time, number=ROUNDS, repeat=7)) / ROUNDS * 1e6
        missed |= took_us > bar_us
        print(f"{name:<58} {took_us:9.2f} us, at most {bar_us:.0f}{': MISSED' if took_us > bar_us else ''}")
    return int(missed)


def cases() -> dict[str, Case]:
    """What is measured, by name, each with its bar."""
    snapshot = compile_text(_document().encode(), "catalog.yaml", {}, NOW)
    planner, options = Planner(snapshot), Options()
    body = {"model": "ten", "messages": [{"role": "user", "content": "x" * 2_000}], "max_tokens": 200, "stream": True}
    needs = infer_needs(parse_chat(msgspec.json.encode(body)), options)
    facts = Facts(NOW, seed=7, stats={name: Stats(300.0, 80.0, 0.01, 400.0, 100) for name in snapshot.deployments})
    usage = Usage(input=1_000, output=300, cache_read=4_000, reasoning=100)
    deployment = snapshot.deployments["one/model-999"]

    def price() -> int:
        row = deployment.price_at(NOW)
        assert row is not None
        return cost_nano(usage, row, started_at=NOW)

    def plan(name: str) -> Callable[[], object]:
        target = snapshot.targets[name]
        return lambda: planner.plan(name, target, needs, options, facts)

    return {
        "lookup of a tier": (lambda: resolve(snapshot, "ten", options), LOOKUP_US),
        "lookup of a model": (lambda: resolve(snapshot, "model-999", options), LOOKUP_US),
        "lookup of one deployment": (lambda: resolve(snapshot, "one/model-999", options), LOOKUP_US),
        "lookup of a name that there is not": (lambda: _unknown(snapshot, options), UNKNOWN_US),
        "pricing of an answer": (price, PRICING_US),
        "plan, one model": (plan("model-999"), PLAN_US),
        "plan, tier of 10": (plan("ten"), PLAN_US),
        "plan, tier of 50": (plan("fifty"), PLAN_US),
    }


def _document() -> str:
    tiers = {"ten": range(0, MODELS, MODELS // 10), "fifty": range(0, MODELS, MODELS // 50)}
    listed = (f"  {name}: {{models: [{', '.join(f'model-{n}' for n in of)}]}}\n" for name, of in tiers.items())
    return document(MODELS, "measured") + "tiers:\n" + "".join(listed)


def _unknown(snapshot: Snapshot, options: Options) -> str:
    try:
        resolve(snapshot, "modle-999", options)
    except CallerError as error:
        return error.message
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
