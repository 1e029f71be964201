"""CPU time of what routing adds to each request, in microseconds. Run: `python -m benchmarks.micro_routing`."""

from __future__ import annotations

import time
from collections.abc import Callable
from timeit import repeat

import msgspec

from gateway.catalog.snapshot import Snapshot, Target
from gateway.chat import parse_chat
from gateway.routing.batch import Decided, packed
from gateway.routing.explain import explain_header
from gateway.routing.health import Breakers
from gateway.routing.needs import infer_needs
from gateway.routing.plan import Planner
from gateway.routing.retry import RetryBudget
from gateway.routing.stats import Statistics
from gateway.types import (
    Capability,
    Deployment,
    Facts,
    Health,
    Model,
    Options,
    Price,
    Provider,
    Rates,
    Stats,
    Tier,
    mask_of,
)
from policies import compile_chain

NOW = 1_790_000_000.0
ROUNDS = 2_000


def main() -> None:
    """Prints a table of the figures."""
    for name, work in cases().items():
        best_s = min(repeat(work, number=ROUNDS, repeat=5))
        print(f"{name:<58} {best_s / ROUNDS * 1e6:9.2f} us")


def cases() -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    options = Options()
    small = parse_chat(_body([2_000]))
    long = parse_chat(_body([1_000] * 100))
    needs = infer_needs(small, options)
    measured: dict[str, Callable[[], object]] = {
        "needs, 2 KB": lambda: infer_needs(small, options),
        "needs, 100 KB in 100 messages": lambda: infer_needs(long, options),
    }
    for models, size in ((5, 2), (5, 5), (1_000, 5), (1_000, 50)):
        snapshot, target = _catalog(models, size)
        planner = Planner(snapshot)
        facts = _facts(snapshot, unhealthy=False)
        name = f"plan, tier of {size} of {models} models"
        measured[name] = lambda p=planner, t=target, f=facts: p.plan("fast", t, needs, options, f)  # type: ignore[misc]
    snapshot, target = _catalog(5, 5)
    planner, facts = Planner(snapshot), _facts(snapshot, unhealthy=True)
    plan = planner.plan("fast", target, needs, options, facts, explain=True)
    breakers = Breakers(time.monotonic, time.time, lambda: 0.5)
    statistics, budget = Statistics(time.monotonic), RetryBudget(time.monotonic)
    quiet = planner.plan("fast", target, needs, options, facts)
    made = [
        Decided(f"req_{number:032x}", planner, target, needs, options, facts, quiet, "main") for number in range(256)
    ]

    def observations() -> None:
        for _ in range(64):
            statistics.observe("p0/m0", ttft_ms=200.0, tokens_per_s=80.0)
        statistics.view()

    def permit() -> None:
        if (given := breakers.admit("p0/m0")) is not None:
            given.settle("success")

    return measured | {
        "plan, tier of 5, one unhealthy": lambda: planner.plan("fast", target, needs, options, facts),
        "plan, tier of 5, one unhealthy, explained": lambda: planner.plan(
            "fast", target, needs, options, facts, explain=True
        ),
        "explain header": lambda: explain_header(plan),
        "decision records, a batch of 256": lambda: packed(made),
        "permit and success": permit,
        "health view": breakers.view,
        "statistics, 64 observations and a view": observations,
        "retry budget, one deposit": budget.deposit,
    }


def _body(sizes: list[int]) -> bytes:
    messages = [{"role": "user", "content": "x" * size} for size in sizes]
    return msgspec.json.encode({"model": "fast", "messages": messages, "max_tokens": 200, "stream": True})


def _catalog(models: int, size: int) -> tuple[Snapshot, Target]:
    mask = mask_of((Capability.STREAMING, Capability.FUNCTION_CALLING))
    deployments = [
        Deployment(
            name=f"p{i % 8}/m{i}",
            provider=Provider(f"p{i % 8}", "openai", "https://example.test/v1"),
            model=Model(f"m{i}", f"m{i}", "enabled", mask, 200_000, 64_000),
            upstream_id=f"m{i}",
            prices=(Price(f"m{i}@0", 0.0, Rates(1_000_000 + i * 37 % 11, 5_000_000)),),
            capabilities=mask,
        )
        for i in range(models)
    ]
    tier = Tier("fast", tuple(deployments[:size]), compile_chain(["healthy", "cheapest"]))
    target = Target("tier", "fast", tier)
    snapshot = Snapshot(
        version="0123456789ab",
        providers={d.provider.name: d.provider for d in deployments},
        models={d.model.name: d.model for d in deployments},
        deployments={d.name: d for d in deployments},
        tiers={"fast": tier},
        targets={"fast": target},
    )
    return snapshot, target


def _facts(snapshot: Snapshot, *, unhealthy: bool) -> Facts:
    stats = {name: Stats(300.0, 80.0, 0.01, 400.0, 100) for name in snapshot.deployments}
    health = {"p0/m0": Health("open", NOW + 5, "5 failures in a row")} if unhealthy else {}
    return Facts(NOW, seed=7, health=health, stats=stats)


if __name__ == "__main__":
    main()
