"""What was observed of each deployment lately: speed, errors, length of answers; exponentially weighted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import astuple

from gateway.types import Stats

_WEIGHT = 0.1
"""Of the newest observation; the twentieth before it counts an eighth as much. The first few are averaged plainly."""
_MOST_SAY = 20
"""What a replica measured weighs as many calls as it made, up to so many: its means hold no more than that."""
FORGOTTEN_AFTER_S = 900.0
"""A deployment that nobody called for so long is unmeasured again, and so gets another chance."""
_DEAF_S = 15.0
"""So long after something was forgotten here, what others say of it may be from before."""
_LEAST_BYTES_PER_TOKEN = 0.5
_MOST_BYTES_PER_TOKEN = 16.0
_LATELY_S = 0.05
"""So old may be what plans are made from: those of a busy moment have it in common, and it is made once for them."""

_Observation = tuple[bool, float | None, float | None, int | None, float | None, float]
"""What `observe()` was told, and when."""


class Statistics:
    """The observations of all deployments in this process, with those of the other replicas.

    `clock` gives monotonic seconds.
    """

    __slots__ = (
        "_changed",
        "_clock",
        "_deaf_until",
        "_forgotten",
        "_heard",
        "_heard_at",
        "_lately_until",
        "_own",
        "_seen_at",
        "_sweep_at",
        "_unread",
        "_view",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._unread: defaultdict[str, list[_Observation]] = defaultdict(list)
        """Observed, and not yet in what follows."""
        self._own: dict[str, Stats] = {}
        self._heard: dict[str, tuple[Stats, ...]] = {}
        self._view: dict[str, Stats] = {}
        """Both together. Made anew where something changes: what was given out never does."""
        self._lately_until = clock()
        self._changed: set[str] = set()
        self._forgotten: set[str] = set()
        self._heard_at = -FORGOTTEN_AFTER_S
        self._seen_at: dict[str, float] = {}
        self._deaf_until: dict[str, float] = {}
        self._sweep_at = clock() + FORGOTTEN_AFTER_S

    def observe(
        self,
        deployment: str,
        *,
        failed: bool = False,
        ttft_ms: float | None = None,
        tokens_per_s: float | None = None,
        output_tokens: int | None = None,
        bytes_per_token: float | None = None,
    ) -> None:
        """Counts one attempt; what is None was not measured and changes nothing.

        `ttft_ms` is the time to the first event, `tokens_per_s` the speed from there on, `output_tokens` the length of
        one choice, `bytes_per_token` that of the prompt in JSON; what no tokenizer counts is left out.
        """
        if bytes_per_token is not None and not _LEAST_BYTES_PER_TOKEN <= bytes_per_token <= _MOST_BYTES_PER_TOKEN:
            bytes_per_token = None
        self._unread[deployment].append((failed, ttft_ms, tokens_per_s, output_tokens, bytes_per_token, self._clock()))

    def forget(self, deployment: str) -> None:
        """Counts the deployment as unmeasured again, whatever other replicas still say."""
        self._read()
        self._view = dict(self._view)
        self._deaf_until[deployment] = self._clock() + _DEAF_S
        for kept in (self._own, self._heard, self._view, self._seen_at):
            kept.pop(deployment, None)
        self._changed.discard(deployment)
        self._forgotten.add(deployment)

    def take_forgotten(self) -> set[str]:
        """What was forgotten since it was last asked for, and should be everywhere."""
        forgotten, self._forgotten = self._forgotten, set()
        return forgotten

    def take_changed(self) -> dict[str, Stats]:
        """What this process observed of the deployments that were called since it was last asked for."""
        self._read()
        changed, self._changed = self._changed, set()
        return {name: self._own[name] for name in changed if name in self._own}

    def hear(self, heard: Mapping[str, Sequence[Stats]]) -> None:
        """Takes what each other replica observed lately, in place of what was heard before."""
        self._read()
        now = self._clock()
        self._deaf_until = {name: until for name, until in self._deaf_until.items() if until > now}
        self._heard_at = now
        self._heard = {name: tuple(said) for name, said in heard.items() if name not in self._deaf_until}
        view = dict(self._own)
        for name, said in self._heard.items():
            own = self._own.get(name)
            view[name] = _together(said if own is None else (own, *said))
        self._view = view

    def view(self) -> Mapping[str, Stats]:
        """The statistics by deployment; what was given out never changes."""
        now = self._clock()
        self._read()
        self._lately_until = now + _LATELY_S
        if now >= self._sweep_at:
            self._sweep(now)
        return self._view

    def lately(self) -> Mapping[str, Stats]:
        """As `view()`, or as it was a moment ago: for the request path."""
        return self._view if self._clock() < self._lately_until else self.view()

    def _read(self) -> None:
        """Takes what was observed into the statistics."""
        if not self._unread:
            return
        view = dict(self._view)
        for deployment, unread in self._unread.items():
            self._own[deployment] = own = _after(self._own.get(deployment, _NOTHING), unread)
            heard = self._heard.get(deployment)
            view[deployment] = own if heard is None else _together((own, *heard))
            self._seen_at[deployment] = unread[-1][-1]
        self._changed.update(self._unread)
        self._unread.clear()
        self._view = view

    def _sweep(self, now: float) -> None:
        """Forgets what nobody called or said anything of for long."""
        self._sweep_at = now + FORGOTTEN_AFTER_S / 10
        if self._heard and now - self._heard_at >= FORGOTTEN_AFTER_S:
            self.hear({})
        view = dict(self._view)
        for deployment in [d for d, at in self._seen_at.items() if now - at >= FORGOTTEN_AFTER_S]:
            del self._own[deployment], self._seen_at[deployment]
            heard = self._heard.get(deployment)
            if heard is None:
                del view[deployment]
            else:
                view[deployment] = _together(heard)
        self._view = view


_NOTHING = Stats(0.0, 0.0, 0.0, 0.0, 0)


def _after(old: Stats, observed: Sequence[_Observation]) -> Stats:
    """The means moved towards each newer observation."""
    ttft_ms, tokens_per_s, error_rate, output_tokens, samples, bytes_per_token = astuple(old)
    for failed, new_ttft_ms, new_tokens_per_s, new_output_tokens, new_bytes_per_token, _ in observed:
        samples += 1
        weight = max(_WEIGHT, 1 / samples)
        error_rate += (failed - error_rate) * weight
        if new_ttft_ms is not None:
            ttft_ms = _blend(ttft_ms, new_ttft_ms, weight)
        if new_tokens_per_s is not None:
            tokens_per_s = _blend(tokens_per_s, new_tokens_per_s, weight)
        if new_output_tokens is not None:
            output_tokens = _blend(output_tokens, new_output_tokens, weight)
        if new_bytes_per_token is not None:
            bytes_per_token = _blend(bytes_per_token, new_bytes_per_token, weight)
    return Stats(ttft_ms, tokens_per_s, error_rate, output_tokens, samples, bytes_per_token)


def _blend(mean: float, new: float, weight: float) -> float:
    """The first value ever measured is taken whole."""
    return mean + (new - mean) * weight if mean else float(new)


def _together(all_said: Sequence[Stats]) -> Stats:
    """The replicas' means in one; each weighs as much as it knows, and 0 was never measured but for errors."""
    if len(all_said) == 1:
        return all_said[0]
    weighed = [(said, min(said.samples, _MOST_SAY)) for said in all_said]

    def mean(values: Sequence[tuple[float, int]]) -> float:
        total = sum(weight for _, weight in values)
        return sum(value * weight for value, weight in values) / total if total else 0.0

    return Stats(
        mean([(said.ttft_ms, weight) for said, weight in weighed if said.ttft_ms]),
        mean([(said.tokens_per_s, weight) for said, weight in weighed if said.tokens_per_s]),
        mean([(said.error_rate, weight) for said, weight in weighed]),
        mean([(said.output_tokens, weight) for said, weight in weighed if said.output_tokens]),
        sum(said.samples for said in all_said),
        mean([(said.bytes_per_token, weight) for said, weight in weighed if said.bytes_per_token]),
    )
