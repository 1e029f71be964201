"""Outliers among the deployments of one model: those that do clearly worse than the others are set aside for a while.

As Envoy does it. Source:
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier (read 2026-11-21).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev

from gateway.catalog.snapshot import Snapshot
from gateway.routing.health import Breakers, Tally

GATEWAY_ERRORS = 5
"""In a row."""
LEAST_PEERS = 5
LEAST_CALLS = 100
DEVIATIONS = 1.9
LEAST_GAP = 0.05
"""Below the mean at least: with nearly equal peers, 1.9 deviations are no more than a single unlucky call."""
MOST_AWAY = 0.5
JUDGED_S = 120.0
"""Success rates are those of the calls within this time."""
_SAMPLE_S = 10.0


def outliers(tallies: Mapping[str, Tally]) -> dict[str, str]:
    """Which of a model's deployments to set aside, the worst first, each with the reason.

    By five gateway errors in a row; or, of at least five that had a hundred calls each, by a success rate of less than
    their mean less 1.9 standard deviations.
    """
    found = {
        name: f"{tally.gateway_errors} gateway errors in a row"
        for name, tally in sorted(tallies.items(), key=lambda item: -item[1].gateway_errors)
        if tally.gateway_errors >= GATEWAY_ERRORS
    }
    rates = {name: 1 - t.failures / t.calls for name, t in tallies.items() if t.calls >= LEAST_CALLS}
    if len(rates) < LEAST_PEERS:
        return found
    mean, deviation = fmean(rates.values()), pstdev(rates.values())
    least = mean - max(DEVIATIONS * deviation, LEAST_GAP)
    for name, rate in sorted(rates.items(), key=lambda item: item[1]):
        if rate < least:
            found.setdefault(name, f"{rate:.1%} of its calls succeed, of all {len(rates)} peers' {mean:.1%}")
    return found


def peers_of(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """For each usable deployment all usable ones of its model; those that have no other are left out."""
    by_model: dict[str, list[str]] = {}
    for name, deployment in snapshot.deployments.items():
        if deployment.provider.unavailable is None and deployment.model.status in ("enabled", "deprecated"):
            by_model.setdefault(deployment.model.name, []).append(name)
    return {name: tuple(group) for group in by_model.values() if len(group) > 1 for name in group}


class Outliers:
    """Looks at the deployments of each model now and then, and has the breakers set outliers aside.

    `current` gives the snapshot in force, `clock` monotonic seconds.
    """

    def __init__(self, breakers: Breakers, current: Callable[[], Snapshot], clock: Callable[[], float]) -> None:
        self._breakers = breakers
        self._current = current
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._groups: tuple[tuple[str, ...], ...] = ()
        self._past: dict[str, deque[tuple[float, Tally]]] = {}
        """What each deployment's tally was, from the beginning of the time that it is judged by."""

    def look(self) -> None:
        """Sets aside what has become an outlier."""
        snapshot = self._current()
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            peers = peers_of(snapshot)
            self._groups = tuple(dict.fromkeys(peers.values()))
            self._breakers.set_peers(peers)
        if not self._groups:
            return
        now, tallies = self._clock(), self._breakers.tallies()
        for group in self._groups:
            recent = {name: self._recent(name, tallies[name], now) for name in group if name in tallies}
            for name, reason in outliers(recent).items():
                if self._may_go(name, group, now):
                    self._breakers.eject(name, reason)
                    self._past[name] = deque([(now, tallies[name])])

    def _recent(self, name: str, tally: Tally, now: float) -> Tally:
        """The tally of the last two minutes; none of it from before the deployment was set aside last."""
        past = self._past.get(name)
        if past is None:
            past = self._past[name] = deque([(now, Tally(0, 0, 0))])
        if now < self._breakers.ejected_until(name):
            past.clear()
            past.append((now, tally))
        if now - past[-1][0] >= _SAMPLE_S:
            past.append((now, tally))
        while len(past) > 1 and past[1][0] <= now - JUDGED_S:
            past.popleft()
        before = past[0][1]
        calls, failures = tally.calls - before.calls, tally.failures - before.failures
        return Tally(calls, failures, min(tally.gateway_errors, failures))

    def _may_go(self, name: str, group: Sequence[str], now: float) -> bool:
        """Whether at most half are away then, and somebody who is well stays."""
        away = [peer for peer in group if now < self._breakers.ejected_until(peer)]
        return (
            name not in away
            and len(away) + 1 <= len(group) * MOST_AWAY
            and any(self._breakers.well(peer) for peer in group if peer != name)
        )
