"""Asking providers what they offer, and checking their keys, over a fake network and a real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from books import until
from clocks import SetClock
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.catalog.living import LivingCatalog, Vanished
from gateway.catalog.refresh import Outcome
from gateway.catalog.source import CatalogSource
from gateway.upstream.client import Upstream

NOVEMBER_21 = 1_795_219_200.0
DOCUMENT = """\
providers:
  one: {adapter: openai, base_url: https://one.example/v1, api_key: env:ONE, defaults: {text: spare}}
  two: {adapter: openai, base_url: https://two.example/v1, api_key: env:TWO}
  keyless: {adapter: anthropic, api_key: env:NOBODY}
  handmade: {adapter: bedrock, base_url: https://bedrock.example, api_key: env:ONE}
models:
  alpha:
    capabilities: [text_input, text_output]
    deployments: [{provider: one, id: alpha-1}, {provider: two, id: alpha-x}]
  beta:
    capabilities: [text_input, text_output]
    deployments: [{provider: one, id: beta-1}]
  spare:
    capabilities: [text_input, text_output]
    deployments: [{provider: two, id: spare-1}]
tiers:
  fast: {models: [beta]}
"""


class Network:
    """What the providers answer, and what they were asked."""

    def __init__(self) -> None:
        self.lists: dict[str, Any] = {"one": ["alpha-1", "beta-1"], "two": ["alpha-x", "spare-1"]}
        self.refused: set[str] = set()
        self.refused_lists: set[str] = set()
        self.public_list = False
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host.partition(".")[0]
        self.asked.append(f"{request.method} {name}{request.url.path}")
        listing = request.url.path.endswith("/models") or name == "bedrock"
        if listing and name in self.refused_lists:
            return httpx.Response(403, json={"message": "not authorized to perform bedrock:ListFoundationModels"})
        if name in self.refused and not (listing and self.public_list):
            return httpx.Response(401, json={"error": {"message": "bad key"}})
        if not listing:
            return httpx.Response(400, json={"error": {"message": "model is missing"}})
        answer = self.lists[name]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer)
        if name == "bedrock":
            profiles = [{"inferenceProfileId": i, "status": "ACTIVE"} for i in answer]
            return httpx.Response(
                200, json={} if "foundation" in request.url.path else {"inferenceProfileSummaries": profiles}
            )
        return httpx.Response(200, json={"data": [{"id": name} for name in answer]})


@pytest.fixture
def network() -> Network:
    return Network()


Open = Callable[..., LivingCatalog]


@pytest.fixture
def open_catalog(store: Redis, clock: SetClock, monotonic: SetClock, tmp_path: Path, network: Network) -> Open:
    """A catalog over the fake network; nothing runs in the background."""
    alerts: list[Vanished] = []

    def open_(text: str = DOCUMENT) -> LivingCatalog:
        path = tmp_path / "catalog.yaml"
        path.write_text(text)
        source = CatalogSource(path, {"ONE": "key-one", "TWO": "key-two"}, clock)
        upstream = Upstream(httpx.MockTransport(network))
        living = LivingCatalog(
            source, store, upstream, in_store=False, clock=clock, monotonic=monotonic, on_vanished=alerts.append
        )
        living.alerts = alerts  # type: ignore[attr-defined]
        return living

    return open_


def by_name(outcomes: list[Outcome]) -> dict[str, Outcome]:
    return {outcome.provider: outcome for outcome in outcomes}


@pytest.mark.parametrize("failure", [httpx.ConnectError("no route"), LookupError("as an adapter's fault")])
async def test_all_are_asked_and_one_failure_hides_no_other(
    open_catalog: Open, network: Network, failure: Exception
) -> None:
    """A provider without a key is not asked; one without a list API has a list kept by hand."""
    network.lists["one"] = failure
    network.lists["two"] = ["alpha-x", "spare-1", "gamma"]
    found = by_name(await open_catalog().discovery.refresh())
    assert found["one"].state == "failed"
    assert (found["two"].state, found["two"].new) == ("refreshed", ["two/gamma"])
    assert (found["keyless"].state, found["keyless"].detail) == ("unavailable", "no key: set NOBODY")
    assert found["handmade"].listed > 5
    assert sorted(network.asked) == ["GET one/v1/models", "GET two/v1/models"]


@pytest.mark.parametrize("answer", [[], 500, 403], ids=["empty", "failure", "refusal"])
async def test_a_list_that_is_none_leaves_the_former_one(open_catalog: Open, network: Network, answer: Any) -> None:
    """Nothing vanishes because a provider is unwell."""
    living = open_catalog()
    await living.discovery.refresh("one")
    network.lists["one"] = answer
    (outcome,) = await living.discovery.refresh("one", force=True)
    assert outcome.state == "failed"
    listing = (await living.findings.listings())["one"]
    assert (list(listing.ids), listing.vanished) == (["alpha-1", "beta-1"], {})
    assert listing.error


async def test_a_list_kept_by_hand_is_no_evidence(open_catalog: Open, network: Network) -> None:
    """Bedrock's own list takes its place once our key may ask for it; nothing vanishes by the change."""
    runtime = "https://bedrock-runtime.us-east-1.amazonaws.com"
    text = DOCUMENT.replace("https://bedrock.example", runtime)
    text = text.replace("{provider: one, id: beta-1}", "{provider: handmade, id: amazon.nova-pro-v1:0}")
    living = open_catalog(text)
    network.refused_lists.add("bedrock")
    (by_hand,) = await living.discovery.refresh("handmade")
    assert by_hand.state == "refreshed"
    assert "kept by hand: our key may not ask" in by_hand.detail
    network.refused_lists.clear()
    network.lists["bedrock"] = ["global.anthropic.claude-opus-5-5"]
    (own,) = await living.discovery.refresh("handmade", force=True)
    assert (own.state, own.detail, own.listed, own.vanished) == ("refreshed", "", 1, [])
    network.refused_lists.add("bedrock")
    (refused,) = await living.discovery.refresh("handmade", force=True)
    assert (refused.state, refused.listed) == ("failed", 0)
    assert (await living.findings.listings())["handmade"].ids == ["global.anthropic.claude-opus-5-5"]


async def test_five_minutes_pass_between_two_askings(open_catalog: Open, network: Network, clock: SetClock) -> None:
    """Unless forced; what was found last is told with its age."""
    living = open_catalog()
    await living.discovery.refresh("one")
    clock.at += 180
    (fresh,) = await living.discovery.refresh("one")
    assert (fresh.state, fresh.detail) == ("fresh", "refreshed 3 min ago")
    assert len(network.asked) == 1
    await living.discovery.refresh("one", force=True)
    clock.at += 300
    await living.discovery.refresh("one")
    assert len(network.asked) == 3


async def test_one_replica_asks_at_a_time(open_catalog: Open, network: Network) -> None:
    """The other is told so."""
    living = open_catalog()
    assert await living.findings.claim("one")
    (outcome,) = await living.discovery.refresh("one")
    assert outcome.state == "under_way"
    assert network.asked == []


async def test_a_vanished_model_falls_to_its_providers_default(open_catalog: Open, network: Network) -> None:
    """Asked for by name and within tiers; the response will say so. A deployment among others is just left out."""
    living = open_catalog()
    await living.discovery.refresh("one")
    network.lists["one"] = ["something"]
    (outcome,) = await living.discovery.refresh("one", force=True)
    assert outcome.vanished == ["one/alpha-1", "one/beta-1"]
    await living.fleet.step()
    snapshot = living.source.current
    target = snapshot.targets["beta"]
    assert (target.name, target.substituted) == ("spare", "beta")
    assert target.note == (
        "beta is retired (deprecated 2026-11-21): its provider lists it no longer (since 2026-11-21); served by spare"
    )
    assert snapshot.models["beta"].deprecated_at == NOVEMBER_21  # for the Deprecation header
    assert [d.name for d in snapshot.tiers["fast"].deployments] == ["two/spare"]
    assert [d.name for d in snapshot.targets["alpha"].tier.deployments] == ["two/alpha"]
    assert living.source.current.version == open_catalog().source.current.version
    network.lists["one"] = ["alpha-1", "beta-1"]
    await living.discovery.refresh("one", force=True)
    await living.fleet.step()
    assert living.source.current.targets["beta"].substituted is None


async def test_a_vanished_model_that_nothing_replaces_is_still_tried(open_catalog: Open, network: Network) -> None:
    """A list may be wrong; a refusal by the provider is no worse than one by us."""
    living = open_catalog(DOCUMENT.replace(", defaults: {text: spare}", ""))
    await living.discovery.refresh("one")
    network.lists["one"] = ["something"]
    await living.discovery.refresh("one", force=True)
    await living.fleet.step()
    assert [d.name for d in living.source.current.targets["beta"].tier.deployments] == ["one/beta"]


async def test_a_vanished_model_is_alerted_of_if_it_carried_traffic(
    open_catalog: Open, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, when it is found; one without traffic is only logged."""
    living = open_catalog()

    async def traffic(days: int = 7) -> dict[str, dict[str, int]]:
        return {"one/beta": {"attempts": 12}}

    monkeypatch.setattr(living, "traffic", traffic)
    await living.discovery.refresh("one")
    network.lists["one"] = ["something"]
    for _ in range(2):
        await living.discovery.refresh("one", force=True)
    alerts: list[Vanished] = living.alerts  # type: ignore[attr-defined]
    assert [alert.text for alert in alerts] == [
        "one lists beta-1 no longer; one/beta carried 12 attempts in the last 7 days"
    ]


async def test_a_model_whose_traffic_cannot_be_read_is_alerted_of_too(
    open_catalog: Open, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding is told only once, so it must not be lost with the store."""
    living = open_catalog()

    async def traffic(days: int = 7) -> dict[str, dict[str, int]]:
        raise RedisConnectionError

    monkeypatch.setattr(living, "traffic", traffic)
    await living.discovery.refresh("one")
    network.lists["one"] = ["alpha-1"]
    await living.discovery.refresh("one", force=True)
    (alert,) = living.alerts  # type: ignore[attr-defined]
    assert (alert.deployment, alert.attempts) == ("one/beta", None)


async def test_no_model_is_offered_until_its_key_is_verified(
    open_catalog: Open, network: Network, monotonic: SetClock
) -> None:
    """A refused key is told with the reason and tried again after a minute; other providers are not touched."""
    network.refused.add("one")
    living = open_catalog(DOCUMENT.replace("api_key: env:ONE, def", "api_key: env:ONE, verify: true, def"))

    async def state() -> str | None:
        await living.checks.check_due(living.source)
        await living.fleet.step()
        assert living.source.current.providers["two"].unavailable is None
        return living.source.current.providers["one"].unavailable

    await living.fleet.step()
    assert living.source.current.providers["one"].unavailable == "its key is being checked (verify: true)"
    assert await state() == "its key is not verified: it refused our key with status 401"
    network.refused.clear()
    asked = len(network.asked)
    assert await state() is not None
    assert len(network.asked) == asked
    monotonic.at += 60
    assert await state() is None
    monotonic.at += 3600
    asked = len(network.asked)
    assert await state() is None
    assert len(network.asked) == asked


async def test_a_public_list_proves_no_key(open_catalog: Open, network: Network) -> None:
    """Other gateways list models to everybody; an empty chat request tells, and costs nothing."""
    network.public_list = True
    network.refused.add("one")
    living = open_catalog(DOCUMENT.replace("api_key: env:ONE, def", "api_key: env:ONE, verify: true, def"))
    await living.checks.check_due(living.source)
    assert living.checks.unusable(living.source) == {
        "one": "its key is not verified: it refused our key with status 401"
    }
    assert network.asked == ["GET one/v1/models", "POST one/v1/chat/completions"]


async def test_a_provider_that_cannot_be_asked_is_not_offered_either(open_catalog: Open, network: Network) -> None:
    """Nothing is known of its key."""
    network.lists["one"] = httpx.ConnectError("no route")
    living = open_catalog(DOCUMENT.replace("api_key: env:ONE, def", "api_key: env:ONE, verify: true, def"))
    await living.checks.check_due(living.source)
    assert "could not be asked" in living.checks.unusable(living.source)["one"]


async def test_a_failure_that_nobody_expected_does_not_end_the_checks(open_catalog: Open, network: Network) -> None:
    """The key is checked in a later round, and the provider is offered then."""
    right, network.lists["one"] = network.lists["one"], LookupError("of whatever kind")
    living = open_catalog(DOCUMENT.replace("api_key: env:ONE, def", "api_key: env:ONE, verify: true, def"))
    await living.start()
    try:
        await until(lambda: bool(network.asked))
        network.lists["one"] = right
        await until(lambda: living.source.current.providers["one"].unavailable is None)
    finally:
        await living.close()
