"""Routing policies: `POLICIES` names each one that a catalog may use; `compile_chain` makes a tier's chain of them."""

from collections.abc import Mapping

from policies import arguments, trial_arguments
from policies.arguments import plain
from policies.capability import Capable
from policies.chain import Factory, compile_chain
from policies.chance import Random, Weighted
from policies.context import Fits
from policies.cost import Cheapest
from policies.health import Healthy
from policies.order import DefaultFirst, Newest
from policies.price import PriceKnown
from policies.statistics import Fastest, Reliable
from policies.sticky import Sticky

__all__ = ["POLICIES", "compile_chain"]

POLICIES: Mapping[str, Factory] = {
    # filters
    "capability": plain(Capable),
    "context": plain(Fits),
    "healthy": plain(Healthy),
    "max_cost": arguments.max_cost,
    "price_known": plain(PriceKnown),
    "region": arguments.region,
    # orders
    "balanced": arguments.balanced,
    "cheapest": plain(Cheapest),
    "default_first": plain(DefaultFirst),
    "fastest": plain(Fastest),
    "newest": plain(Newest),
    "ordered": arguments.ordered,
    "prefer_provider": arguments.prefer_provider,
    "random": plain(Random),
    "reliable": plain(Reliable),
    "sticky": plain(Sticky),
    "weighted": plain(Weighted),
    # which tier
    "step_down": arguments.step_down,
    # comparisons
    "canary": trial_arguments.canary,
    "experiment": trial_arguments.experiment,
    "shadow": trial_arguments.shadow,
}
