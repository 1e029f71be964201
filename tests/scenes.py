"""A tier with two providers for one test alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fake_catalog import model_of
from fakes import FakeProvider, Script, Seen


@dataclass(frozen=True)
class Scene:
    """A tier of two providers that no other test uses: the first is asked before the second."""

    tier: str
    first: str
    second: str
    fake: FakeProvider

    def script(self, *replies: Script) -> None:
        """The first provider's next replies."""
        self.fake.script(self.first, *replies)

    def script_second(self, *replies: Script) -> None:
        self.fake.script(self.second, *replies)

    @property
    def requests(self) -> list[Seen]:
        """What the first provider was asked."""
        return self.fake.seen(self.first)

    @property
    def second_requests(self) -> list[Seen]:
        return self.fake.seen(self.second)

    @property
    def upstream_body(self) -> dict[str, Any]:
        """The body of the one request that the first provider was sent."""
        (seen,) = self.requests
        body: dict[str, Any] = seen.body
        return body

    @property
    def first_deployment(self) -> str:
        return f"{self.first}/{model_of(self.first)}"

    @property
    def second_deployment(self) -> str:
        return f"{self.second}/{model_of(self.second)}"
