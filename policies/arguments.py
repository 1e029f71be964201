"""Reading what stands beside a policy's name in the catalog, strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from gateway.money import NANO_PER_USD
from policies.base import Policy
from policies.order import Ordered
from policies.price import MaxCost
from policies.provider import PreferProvider
from policies.region import Region
from policies.statistics import SCORES, Balanced
from policies.step_down import StepDown, parse_when

_EVEN_WEIGHTS = {"cost": 1.0, "latency": 1.0, "reliability": 1.0}


def plain(make: Callable[[], Policy]) -> Callable[[object], Policy]:
    """A factory of a policy that takes no arguments."""

    def factory(arguments: object) -> Policy:
        if arguments is not None:
            raise ValueError(f"takes no arguments, got {arguments!r}; write its bare name")
        return make()

    return factory


def region(arguments: object) -> Policy:
    """`{region: eu}` or `{region: [eu, us-east-1]}`."""
    return Region(_names(arguments, "{region: [eu, us-east-1]}"))


def prefer_provider(arguments: object) -> Policy:
    """`{prefer_provider: anthropic}` or a list, the most preferred first."""
    return PreferProvider(_names(arguments, "{prefer_provider: [anthropic, openai]}"))


def ordered(arguments: object) -> Policy:
    """`ordered`, or `{ordered: [models, deployments or providers to put first]}`."""
    return Ordered(() if arguments is None else _names(arguments, "{ordered: [gpt-5-mini, claude-haiku-4-5]}"))


def max_cost(arguments: object) -> Policy:
    """`{max_cost: {usd: "0.05"}}` for each request; the bare name leaves the caller's own cap."""
    if arguments is None:
        return MaxCost()
    example = 'write {max_cost: {usd: "0.05"}}'
    if not isinstance(arguments, Mapping) or set(arguments) != {"usd"}:
        raise ValueError(f"got {arguments!r}; {example}")
    try:
        nano = Decimal(str(arguments["usd"])) * NANO_PER_USD
        whole = int(nano)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"usd is {arguments['usd']!r}, not an amount; {example}") from None
    if whole <= 0 or whole != nano:
        raise ValueError(f"usd is {arguments['usd']!r}; it must be above 0 and have at most 9 decimals; {example}")
    return MaxCost(whole)


def balanced(arguments: object) -> Policy:
    """`{balanced: {cost: 0.5, latency: 0.3, reliability: 0.2}}`; the bare name weighs all three alike."""
    if arguments is None:
        return Balanced(_EVEN_WEIGHTS)
    if not isinstance(arguments, Mapping) or not arguments or not set(arguments) <= set(SCORES):
        raise ValueError(f"got {arguments!r}; give weights for {', '.join(SCORES)}, as in {{cost: 0.7, latency: 0.3}}")
    weights: dict[str, float] = {}
    for name, weight in arguments.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1e6:
            raise ValueError(f"the weight of {name} is {weight!r}; it must be a number from 0 on")
        weights[name] = float(weight)
    if not any(weights.values()):
        raise ValueError("every weight is 0; give at least one above 0")
    return Balanced(weights)


def step_down(arguments: object) -> Policy:
    """`{step_down: {when: budget_left < 20%, to: fast}}`."""
    example = "write {step_down: {when: 'budget_left < 20%', to: fast}}"
    if not isinstance(arguments, Mapping) or set(arguments) != {"when", "to"}:
        raise ValueError(f"got {arguments!r}; {example}")
    when, to = arguments["when"], arguments["to"]
    if not isinstance(when, str) or not isinstance(to, str) or not to:
        raise ValueError(f"`when` and `to` must be texts; {example}")
    return StepDown(parse_when(when), to)


def _names(arguments: object, example: str) -> tuple[str, ...]:
    names = [arguments] if isinstance(arguments, str) else arguments
    if not isinstance(names, list | tuple) or not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f"got {arguments!r}; write a name or a list of names, as in {example}")
    return tuple(names)
