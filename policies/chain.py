"""From the catalog's `policy:` list to the rules it names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points

import policies
from policies.base import Policy

Factory = Callable[[object], Policy]
"""Makes a policy from what stands beside its name in the catalog; None where nothing does. Raises ValueError."""


def compile_chain(items: Sequence[str | Mapping[str, object]]) -> tuple[Policy, ...]:
    """The policies of a list such as `[healthy, {balanced: {cost: 0.7, latency: 0.3}}]`, in its order.

    Raises:
        ValueError: an item is no policy or its arguments are not usable; names the item and the fix.
    """
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise ValueError(f"policy is {items!r}; write a list, as in [healthy, cheapest]")
    chain = []
    for index, item in enumerate(items):
        try:
            chain.append(_compile(item))
        except ValueError as error:
            raise ValueError(f"policy[{index}]: {error}") from None
    return tuple(chain)


@cache
def factories() -> Mapping[str, Factory]:
    """Every policy by name: ours, and those that installed packages offer under the entry-point group.

    Raises:
        ValueError: a package offers a policy under a name that is taken.
    """
    known = dict(policies.POLICIES)
    for entry in entry_points(group="tiergate.policies"):
        if entry.name in known:
            raise ValueError(f"policy '{entry.name}' of {entry.value} is already taken; rename the entry point")
        known[entry.name] = entry.load()
    return known


def _compile(item: object) -> Policy:
    name, arguments = _split(item)
    known = factories()
    if name not in known:
        near = difflib.get_close_matches(name[:64], known, n=1)
        hint = f" — did you mean '{near[0]}'?" if near else "."
        raise ValueError(f"unknown policy '{name[:64]}'{hint} Known: {', '.join(sorted(known))}")
    try:
        return known[name](arguments)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _split(item: object) -> tuple[str, object]:
    if isinstance(item, str):
        return item, None
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, arguments),) = item.items()
        if isinstance(name, str):
            return name, arguments
    raise ValueError(f"{item!r} is no policy; write a name, or one name with its arguments as in {{region: eu}}")
