"""Request parameters that the catalog may set, with OpenAI's types and ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from gateway.catalog.entry import Entry

FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the lowest value stands first; swap them")
    return bounds


def _caps_kept(actions: dict[str, str]) -> dict[str, str]:
    """Budgets hold no more than the cap they send along lets an answer cost, so it may not get lost."""
    for name in ("max_tokens", "max_completion_tokens"):
        if actions.get(name) == "drop":
            raise ValueError(f"{name} caps what an answer may cost; say reject, or the name to send it under")
    return actions


UnsupportedParams = Annotated[dict[FieldName, FieldName], AfterValidator(_caps_kept)]
ParamRanges = dict[FieldName, Annotated[tuple[float, float], AfterValidator(_ordered)]]


class Params(Entry):
    """Request parameters. Source: OpenAI API reference, "Create chat completion" (read 2026-11-21)."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Randomness: 0 repeats itself, higher values vary more."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of probability that tokens are drawn from."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of the answer."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of the answer, reasoning included."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Pushes towards words not used yet."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Pushes away from words used often."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """How long a reasoning model thinks."""
    verbosity: Literal["low", "medium", "high"] | None = None
    """How much it says."""
    seed: int | None = None
    """Makes answers repeatable where the provider can."""
    stop: str | list[str] | None = None
    """Text that ends the answer."""
    parallel_tool_calls: bool | None = None
    """Whether several tools may be called in one turn."""
    service_tier: str | None = None
    """The provider's service tier to ask for, e.g. `flex`."""
    store: bool | None = None
    """Whether the provider may keep the answer."""
    extra: dict[FieldName, Any] = Field(default_factory=dict)
    """Fields that OpenAI's API does not know, sent as they stand here."""

    def merged(self) -> dict[str, Any]:
        """The request fields that are set, `extra` among them."""
        return {**self.model_dump(exclude_none=True, exclude={"extra"}), **self.extra}
