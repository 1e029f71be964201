"""What a gateway notices of its providers beyond failures, and what two gateways on one store tell each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import answers
import pytest
from fake_catalog import catalog_for, model_of
from fakes import FakeProvider, Gate, Reply, error_reply, eventually, json_reply, stream_reply
from fleet import Fleet, running_fleet
from running import RunningGateway, running_gateway
from stores import StoreServer
from talk import CHAT, HELLO, Talk, admin, chat


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def fleet(fake: FakeProvider, tmp_path: Path, own_store: StoreServer) -> Iterator[Fleet]:
    """Two gateways on one store, with one tier of two providers."""
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", {"fast": ["one", "two"]})
    with running_fleet(tmp_path, catalog, f"unix://{own_store.socket}", 2) as running:
        yield running


def standing(gateway: RunningGateway, deployment: str) -> dict[str, Any]:
    found = [d for d in admin(gateway, "/health").body["deployments"] if d["deployment"] == deployment]
    health: dict[str, Any] = found[0]
    return health


def deployment_of(provider: str) -> str:
    return f"{provider}/{model_of(provider)}"


def late(seconds: float) -> Reply:
    """A stream that begins so late."""
    return stream_reply([seconds, *answers.chunks("Fine")])


def test_what_one_learns_the_other_knows(fleet: Fleet, fake: FakeProvider) -> None:
    """An opened breaker and a rest are known to the other gateway within two seconds, without a call of its own."""
    here, there = fleet.gateways
    fake.script("one", *[error_reply(500)] * 5)
    for _ in range(5):
        assert chat(here, "fast").headers["x-gateway-attempts"] == "2"
    opened = time.monotonic()
    eventually(lambda: standing(there, deployment_of("one"))["state"] == "open", 4)
    assert time.monotonic() - opened < 4
    assert "another replica" in standing(there, deployment_of("one"))["detail"]
    answer = chat(there, "fast")
    assert (answer.headers["x-gateway-deployment"], answer.headers["x-gateway-attempts"]) == (deployment_of("two"), "1")
    assert len(fake.seen("one")) == 5
    fake.script("two", error_reply(429, "rate_limit_exceeded", retry_after="30"))
    chat(there, "fast")
    assert eventually(lambda: standing(here, deployment_of("two"))["state"] == "resting", 4)


def test_measurements_are_everybodys(fleet: Fleet, fake: FakeProvider) -> None:
    """A gateway that was never asked expects of a prompt what the other has learned of the tokenizer."""
    here, there = fleet.gateways
    prompt = "word " * 400

    def expected(gateway: RunningGateway) -> float:
        request = {"model": "fast", "messages": [{"role": "user", "content": prompt}], "max_tokens": 1}
        plan = admin(gateway, "/explain", {"request": request}, method="POST").body
        return float(next(c["expected_usd"] for c in plan["candidates"] if c["deployment"] == deployment_of("one")))

    before = expected(there)
    usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}  # two bytes each
    fake.script("one", *[json_reply(answers.completion("Fine", usage=usage))] * 3)
    for _ in range(3):
        assert chat(here, "fast", messages=[{"role": "user", "content": prompt}]).status == 200
    eventually(lambda: expected(here) > before * 1.8)
    assert eventually(lambda: expected(there) > before * 1.8, 15)


def test_mostly_slow_streams_move_traffic(fake: FakeProvider, tmp_path: Path) -> None:
    """Then others are asked, as the explanation says; with nobody else to ask, the slow one serves all the same."""
    catalog = catalog_for(
        fake,
        tmp_path / "catalog.yaml",
        {"fast": ["one", "two"], "only": ["one"]},
        tier_fields={"fast": {"slow_ttft_s": 0.05}, "only": {"slow_ttft_s": 0.05}},
    )
    fake.script("one", *[late(0.2)] * 20)
    with running_gateway(tmp_path / "gateway", catalog=catalog) as gateway:
        with ThreadPoolExecutor(10) as pool:
            asked = list(pool.map(lambda _: chat(gateway, "fast", stream=True).status, range(20)))
        assert asked == [200] * 20
        health = standing(gateway, deployment_of("one"))
        assert (health["state"], health["breaker"]) == ("open", "open")
        assert health["detail"] == "20 of 20 streams began slowly within 30 s"
        moved = chat(gateway, "fast", stream=True, headers=[("x-gateway-explain", "true")])
        assert moved.headers["x-gateway-deployment"] == deployment_of("two")
        assert "streams began slowly" in moved.headers["x-gateway-explain"]
        assert chat(gateway, "only", stream=True).headers["x-gateway-deployment"] == deployment_of("one")


def test_a_providers_limit_holds_for_all_its_deployments(fake: FakeProvider, tmp_path: Path) -> None:
    """Full, it is passed over; with nobody else the request is shed at once, and served when there is room."""
    gate = Gate()
    catalog = catalog_for(
        fake,
        tmp_path / "catalog.yaml",
        {"fast": ["one", "two"], "only": ["one"]},
        providers={"one": {"concurrency": 1}},
    )
    events = answers.chunks("One two three")
    fake.script("one", stream_reply([*events[:2], gate, *events[2:]]))
    with running_gateway(tmp_path / "gateway", catalog=catalog) as gateway, Talk(gateway) as talk:
        talk.send(CHAT, {"model": "only", "messages": HELLO, "stream": True})
        response = talk.connection.getresponse()
        assert response.readline().startswith(b"data: {")
        assert standing(gateway, deployment_of("one"))["detail"] == "1 in flight at one"
        assert chat(gateway, "fast").headers["x-gateway-deployment"] == deployment_of("two")
        shed = chat(gateway, "only")
        assert (shed.status, shed.headers["retry-after"]) == (503, "1")
        gate.open()
        response.read()
        assert eventually(lambda: chat(gateway, "only").status == 200)


def test_an_outlier_is_set_aside(fake: FakeProvider, tmp_path: Path) -> None:
    """A deployment of several that only gives gateway errors gets nothing for half a minute; health says why."""
    served = [{"provider": name, "id": "m"} for name in ("one", "two", "three")]
    catalog = catalog_for(
        fake, tmp_path / "catalog.yaml", {"fast": ["one", "two", "three"]}, models={"one": {"deployments": served}}
    )
    model = model_of("one")
    fake.script("one", *[error_reply(503)] * 5)
    with running_gateway(tmp_path / "gateway", catalog=catalog) as gateway:
        for _ in range(5):
            assert chat(gateway, "fast").status == 200
        eventually(lambda: standing(gateway, f"one/{model}")["ejections"] == 1)
        eventually(
            lambda: standing(gateway, f"one/{model}")["state"] == "ejected", 15
        )  # once its breaker lets trials in
        health = standing(gateway, f"one/{model}")
        assert health["detail"] == "5 gateway errors in a row"
        assert health["until_at"] - time.time() > 15
        seen = len(fake.seen("one"))
        moved = chat(gateway, "fast", headers=[("x-gateway-explain", "true")])
        assert "set aside as an outlier" in moved.headers["x-gateway-explain"]
        assert len(fake.seen("one")) == seen
        exact = chat(gateway, f"one/{model}")  # nobody else can serve this
        assert (exact.status, exact.headers["x-gateway-deployment"]) == (200, f"one/{model}")
