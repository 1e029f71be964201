"""A gateway whose store has gone: each limit does what it declares and says so, and all is booked afterwards."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import answers
import pytest
from fake_catalog import catalog_for
from fakes import FakeProvider, Gate, Reply, eventually, json_reply
from running import APP_KEY, RunningGateway, running_gateway
from stores import StoreServer
from talk import CHAT, HELLO, Answer, Talk, admin, chat, key_with

POLICIES = ("deny", "allow", "local")
PEPPER = "pepper-of-the-store-tests-0123456789"


@dataclass
class Away:
    """A gateway that has lost its store, with a key for each sort of limit and policy; each was used before."""

    gateway: RunningGateway
    store: StoreServer
    keys: dict[str, str]
    attempts: dict[str, int] = field(default_factory=dict)
    """How often each key was served, before and since."""

    def ask(self, name: str, model: str = "fast") -> Answer:
        answer = chat(self.gateway, model, headers={"authorization": f"Bearer {self.keys[name]}"}, max_tokens=500)
        if answer.status == 200:
            self.attempts[name] = self.attempts.get(name, 0) + 1
        return answer

    def mode(self, name: str, model: str = "fast") -> str | None:
        """The mode that the answer names; `refused` where the gateway says that it cannot book."""
        answer = self.ask(name, model)
        if answer.status == 503:
            assert answer.error["code"] == "ledger_unavailable"
            assert answer.headers["retry-after"] == "1"
            return "refused"
        assert answer.status == 200, answer.raw
        return answer.headers.get("x-gateway-limits-mode")


def limits() -> dict[str, dict[str, Any]]:
    """The fields of each key."""
    keys: dict[str, dict[str, Any]] = {"unlimited": {}, "soft": {"budget": {"usd": "1", "per": "day", "hard": False}}}
    for policy in POLICIES:
        keys[f"budget-{policy}"] = {"budget": {"usd": "0.05", "per": "day", "on_store_down": policy}}
        for kind, most in (("rpm", 40), ("tpm", 20_000), ("concurrency", 20)):
            keys[f"{kind}-{policy}"] = {kind: most, "rates_on_store_down": policy}
        keys[f"team-{policy}"] = {"team": f"team-{policy}"}
    keys["rpm-undeclared"] = {"rpm": 40}
    return keys


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    """Of this module alone: no script that another test left is answered here."""
    with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def away(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    folder: Path = tmp_path_factory.mktemp("away")
    models = {"thin": {"deployments": [{"provider": "thin", "id": "x", "rpm": 100}]}}
    catalog = catalog_for(fake, folder / "catalog.yaml", {"fast": ["quick"], "narrow": ["thin"]}, models=models)
    with tempfile.TemporaryDirectory(prefix="tg-") as place:
        store = StoreServer(Path(place), "--appendonly", "yes", "--appendfsync", "always")
        store.start()
        env = {"REDIS_URL": f"unix://{store.socket}", "TIERGATE_PEPPER": PEPPER}
        with running_gateway(folder, catalog=catalog, env=env) as gateway:
            for policy in POLICIES:
                rule = {"id": policy, "of": "team", "name": f"team-{policy}", "rpm": 40, "rates_on_store_down": policy}
                assert admin(gateway, "/budgets", rule, method="POST").status == 200
            keys = {name: key_with(gateway, **fields) for name, fields in limits().items()}
            made = Away(gateway, store, keys | {"app": APP_KEY})
            eventually(lambda: made.mode("team-deny") == "exact")
            for name in made.keys:
                assert made.mode(name) in ("exact", None)
            assert made.mode("app", "narrow") == "exact"
            time.sleep(0.2)
            store.stop()
            yield made
        store.stop()


@pytest.mark.parametrize("kind", ["budget", "rpm", "tpm", "concurrency", "team"])
def test_deny(away: Away, kind: str) -> None:
    """Whatever must be exact is refused, at once, and can be tried again."""
    began = time.monotonic()
    assert away.mode(f"{kind}-deny") == "refused"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["budget", "rpm", "tpm", "concurrency", "team"])
def test_allow(away: Away, kind: str) -> None:
    """Whatever may overrun goes on, however often."""
    assert [away.mode(f"{kind}-allow") for _ in range(3)] == ["allow"] * 3


def test_local_budgets(away: Away) -> None:
    """A twentieth of five cents is lent: two answers at their worst, then what they did not use once more."""
    assert [away.mode("budget-local") for _ in range(3)] == ["local"] * 3


@pytest.mark.parametrize(("kind", "most"), [("rpm", 2), ("team", 2), ("tpm", 1)])
def test_local_rates(away: Away, kind: str, most: int) -> None:
    """A twentieth of forty requests are two, of twenty thousand tokens one request of five hundred and a bit."""
    assert [away.mode(f"{kind}-local") for _ in range(most + 1)] == ["local"] * most + ["refused"]


def test_local_concurrency(away: Away, fake: FakeProvider) -> None:
    """A twentieth of twenty is one at a time."""
    gate = Gate()
    good = json_reply(answers.completion())
    fake.script("quick", Reply(200, good.headers, [gate, *good.steps]))
    before = len(fake.seen("quick"))
    with Talk(away.gateway, away.keys["concurrency-local"]) as talk:
        talk.send(CHAT, {"model": "fast", "messages": HELLO})
        eventually(lambda: len(fake.seen("quick")) > before)
        assert away.mode("concurrency-local") == "refused"
        gate.open()
        assert talk.receive().headers["x-gateway-limits-mode"] == "local"
    away.attempts["concurrency-local"] += 1
    assert away.mode("concurrency-local") == "local"


def test_what_needs_no_store(away: Away) -> None:
    """Keys without limits notice nothing; soft budgets, undeclared rates and deployments' rates let all through."""
    assert away.mode("unlimited") is None
    assert away.mode("soft") == "allow"
    assert away.mode("rpm-undeclared") == "allow"
    assert away.mode("app", "narrow") == "allow"


def test_afterwards_all_of_it_is_booked(away: Away) -> None:
    """Once the store is back limits are exact again, and every request that was served is in the report. Comes last."""
    away.store.start()
    eventually(lambda: away.mode("rpm-deny") == "exact", 20)
    assert away.mode("budget-local") == "exact"

    def booked() -> dict[str, int]:
        rows = admin(away.gateway, "/report?by=key").body["rows"]
        return {row["key"]: row["attempts"] for row in rows}

    expected = {
        "bootstrapapp" if name == "app" else away.keys[name].split("_")[2]: count
        for name, count in away.attempts.items()
    }
    eventually(lambda: booked() == expected, 20)
