"""Conversations and low budgets over a whole gateway: what is remembered steers the next request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_catalog import catalog_for, model_of
from fakes import FakeProvider, error_reply, eventually
from running import RunningGateway, running_gateway
from talk import admin, chat, key_with

TIERS = {"fast": ["one", "two"], "smart": ["dear"], "cheap": ["one"]}
STEP = {"policy": ["healthy", {"step_down": {"when": "budget_left < 50%", "to": "cheap"}}]}


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


def write(fake: FakeProvider, folder: Path, *, first: str = "one", one: str = "enabled") -> Path:
    """A catalog in which `fast` asks `first` before the others, and `one` has this status."""
    return catalog_for(
        fake,
        folder / "catalog.yaml",
        TIERS,
        models={"one": {"status": one, **({} if one == "enabled" else {"replacement": model_of("two")})}},
        tier_fields={
            "fast": {"policy": ["healthy", {"ordered": [model_of(first)]}]},
            "smart": STEP,
        },
    )


def reload(gateway: RunningGateway) -> None:
    answer = admin(gateway, "/catalog/reload", method="POST")
    assert answer.status == 200, answer.raw


def served(gateway: RunningGateway, session: str | None = None, **fields: Any) -> str:
    headers = {} if session is None else {"x-gateway-session": session}
    answer = chat(gateway, "fast", headers=headers, **fields)
    assert answer.status == 200, answer.raw
    return answer.headers["x-gateway-deployment"].partition("/")[0]


def test_a_conversation_keeps_its_model_then_the_replacement(fake: FakeProvider, tmp_path: Path) -> None:
    """Over a catalog that prefers another, an outage, and a restart; until the model is switched off."""
    catalog = write(fake, tmp_path)
    with running_gateway(tmp_path, catalog=catalog) as gateway:
        assert served(gateway, "talk") == "one"
        write(fake, tmp_path, first="two")
        reload(gateway)
        assert served(gateway, "another") == served(gateway) == "two"
        assert served(gateway, "talk", stream=True) == "one"
        fake.script("one", error_reply(500))
        assert served(gateway, "talk") == "two"
        assert served(gateway, "talk") == "one"
    with running_gateway(tmp_path, catalog=catalog) as restarted:
        assert served(restarted, "talk") == "one"
        write(fake, tmp_path, first="one", one="disabled")
        reload(restarted)
        assert served(restarted, "talk") == "two"
        write(fake, tmp_path, first="one")
        reload(restarted)
        assert served(restarted, "talk") == "two"


def test_sessions_of_other_keys_are_other_sessions(fake: FakeProvider, tmp_path: Path) -> None:
    """The name is the caller's own, and so is what it stands for."""
    catalog = write(fake, tmp_path)
    with running_gateway(tmp_path, catalog=catalog) as gateway:
        assert served(gateway, "talk") == "one"
        write(fake, tmp_path, first="two")
        reload(gateway)
        answer = chat_with(gateway, key_with(gateway), "fast", {"x-gateway-session": "talk"})
        assert answer.headers["x-gateway-deployment"] == "two/two-model"


def chat_with(gateway: RunningGateway, key: str, model: str, headers: dict[str, str] | None = None) -> Any:
    answer = chat(gateway, model, headers={"authorization": f"Bearer {key}", **(headers or {})}, max_tokens=100)
    assert answer.status == 200, answer.raw
    return answer


@pytest.mark.parametrize("hard", [True, False])
def test_a_low_budget_steps_down(fake: FakeProvider, tmp_path: Path, hard: bool) -> None:
    """Once less than half is left, the lesser tier serves and says so; a restarted gateway knows it at once."""
    catalog = write(fake, tmp_path)
    with running_gateway(tmp_path, catalog=catalog) as gateway:
        key = key_with(gateway, budget={"usd": "0.001", "per": "total", "hard": hard})
        assert chat_with(gateway, key, "smart").headers["x-gateway-tier"] == "smart"

        def stepped_down() -> bool:
            tier: str = chat_with(gateway, key, "smart").headers["x-gateway-tier"]
            return tier == "cheap"

        assert eventually(stepped_down)
    with running_gateway(tmp_path, catalog=catalog) as restarted:
        assert chat_with(restarted, key, "smart").headers["x-gateway-tier"] == "cheap"


@pytest.mark.parametrize(
    ("of", "headers"),
    [
        ({"of": "team", "name": "tests"}, {}),
        ({"of": "tier", "name": "smart"}, {}),
        ({"of": "session"}, {"x-gateway-session": "long"}),
        ({"of": "tag", "name": "job=nightly"}, {"x-gateway-tags": "job=nightly"}),
        ({"of": "tenant"}, {}),
    ],
    ids=lambda value: value.get("of") if isinstance(value, dict) else None,
)
def test_every_low_budget_steps_down(
    fake: FakeProvider, tmp_path: Path, of: dict[str, str], headers: dict[str, str]
) -> None:
    """Whichever the request falls under: a key without a budget of its own spends its team's, its tier's and others."""
    with running_gateway(tmp_path, catalog=write(fake, tmp_path)) as gateway:
        rule = {"id": "low", **of, "usd": "0.001", "per": "day", "hard": False}
        made = admin(gateway, "/budgets", rule, method="POST")
        assert made.status == 200, made.raw
        key = key_with(gateway)
        assert chat_with(gateway, key, "smart", headers).headers["x-gateway-tier"] == "smart"
        assert eventually(lambda: chat_with(gateway, key, "smart", headers).headers["x-gateway-tier"] == "cheap")
        if headers:
            assert chat_with(gateway, key, "smart").headers["x-gateway-tier"] == "smart"


def test_a_tiers_budget_asks_for_prices(fake: FakeProvider, tmp_path: Path) -> None:
    """What has no price cannot be held against a budget of the tier, so it is not chosen, though it stands first."""
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", {"fast": ["free", "one"]}, models={"free": {"prices": []}})
    with running_gateway(tmp_path, catalog=catalog) as gateway:
        key = key_with(gateway)
        assert chat_with(gateway, key, "fast").headers["x-gateway-deployment"] == "free/free-model"
        rule = {"id": "fast", "of": "tier", "name": "fast", "usd": "5", "per": "total"}
        assert admin(gateway, "/budgets", rule, method="POST").status == 200
        eventually(lambda: "x-gateway-budget" in chat_with(gateway, key, "fast").headers)
        assert chat_with(gateway, key, "fast").headers["x-gateway-deployment"] == "one/one-model"
