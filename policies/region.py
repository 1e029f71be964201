"""Where data may go."""

from __future__ import annotations

from gateway.types import Candidate
from policies.base import Context
from policies.rules import Filter


class Region(Filter):
    """Keeps deployments in the named regions: `eu` also means `eu-west-1`. An unknown region is outside all of them."""

    name = "region"

    def __init__(self, regions: tuple[str, ...]) -> None:
        self.regions = tuple(region.lower() for region in regions)

    def against(self, candidate: Candidate, context: Context) -> str | None:
        region = candidate.deployment.region
        if region is None:
            return f"its region is not known, {' or '.join(self.regions)} is demanded"
        place = region.lower()
        if any(place == wanted or place.startswith(wanted + "-") for wanted in self.regions):
            return None
        return f"region {region} is not within {' or '.join(self.regions)}"
