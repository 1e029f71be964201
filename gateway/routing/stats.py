"""What was observed of each deployment lately: speed, errors, length of answers; exponentially weighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.types import Stats

_WEIGHT = 0.1
"""Of the newest observation; the twentieth before it counts an eighth as much. The first few are averaged plainly."""
FORGOTTEN_AFTER_S = 900.0
"""A deployment that nobody called for so long is unmeasured again, and so gets another chance."""


class Statistics:
    """The observations of all deployments in this process. `clock` gives monotonic seconds."""

    __slots__ = ("_clock", "_seen_at", "_stats", "_sweep_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stats: dict[str, Stats] = {}
        self._seen_at: dict[str, float] = {}
        self._sweep_at = clock() + FORGOTTEN_AFTER_S

    def observe(
        self,
        deployment: str,
        *,
        failed: bool = False,
        ttft_ms: float | None = None,
        tokens_per_s: float | None = None,
        output_tokens: int | None = None,
    ) -> None:
        """Counts one attempt; what is None was not measured and changes nothing.

        `ttft_ms` is the time to the first event, `tokens_per_s` the speed from there on, `output_tokens` the length of
        one choice.
        """
        old = self._stats.get(deployment, _NOTHING)
        samples = old.samples + 1
        weight = max(_WEIGHT, 1 / samples)
        self._stats[deployment] = Stats(
            _blend(old.ttft_ms, ttft_ms, weight),
            _blend(old.tokens_per_s, tokens_per_s, weight),
            old.error_rate + (failed - old.error_rate) * weight,
            _blend(old.output_tokens, output_tokens, weight),
            samples,
        )
        self._seen_at[deployment] = self._clock()

    def forget(self, deployment: str) -> None:
        """Counts the deployment as unmeasured again."""
        self._stats.pop(deployment, None)
        self._seen_at.pop(deployment, None)

    def view(self) -> Mapping[str, Stats]:
        """The statistics by deployment. The mapping is live, its values never change: record at once what must stay."""
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + FORGOTTEN_AFTER_S / 10
            for deployment in [d for d, at in self._seen_at.items() if now - at >= FORGOTTEN_AFTER_S]:
                del self._stats[deployment], self._seen_at[deployment]
        return self._stats


_NOTHING = Stats(0.0, 0.0, 0.0, 0.0, 0)


def _blend(old: float, new: float | None, weight: float) -> float:
    """The mean moved towards a new value; the first value ever measured is taken whole."""
    if new is None:
        return old
    return old + (new - old) * weight if old else float(new)
