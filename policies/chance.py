"""Orders by lot. The lot is drawn from the request's seed and the deployment's name, so a plan can be replayed."""

from __future__ import annotations

from math import log
from zlib import crc32

from gateway.types import Candidate
from policies.base import Context
from policies.rules import Order

_MASK = (1 << 64) - 1


class Random(Order):
    """Any order, each as likely."""

    name = "random"

    def rank(self, candidate: Candidate, context: Context) -> float:
        return lot(context.facts.seed, candidate.deployment.name)


class Weighted(Order):
    """By lot in proportion to the deployments' weights; weight 0 comes last, as a spare.

    Each draws an exponential variate with its weight as the rate and the smallest goes first, which picks every next
    one in proportion to the weights of those left (Efraimidis and Spirakis, Weighted random sampling with a reservoir,
    2006).
    """

    name = "weighted"

    def rank(self, candidate: Candidate, context: Context) -> tuple[bool, float]:
        deployment = candidate.deployment
        if deployment.weight <= 0:
            return True, 0.0
        return False, -log(lot(context.facts.seed, deployment.name)) / deployment.weight


def lot(seed: int, name: str) -> float:
    """A number in (0, 1], the same for the same seed and name: one round of SplitMix64 over both."""
    z = (seed * 0x9E3779B97F4A7C15 + crc32(name.encode()) * 0xD1B54A32D192ED03) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) + 1) / (_MASK + 1)
