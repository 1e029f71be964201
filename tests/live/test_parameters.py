"""What a deployment does not take is renamed, dropped with a warning, refused, or served by another that takes it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeProvider
from running import RunningGateway
from talk import CHAT, HELLO, Talk, chat, entries, key_with


def test_a_field_goes_under_its_other_name(gateway: RunningGateway, fake: FakeProvider) -> None:
    """`max_tokens` becomes what the model calls it."""
    chat(gateway, "picky-model", max_tokens=7)
    sent = fake.seen("picky")[-1].body
    assert (sent.get("max_tokens"), sent["max_completion_tokens"]) == (None, 7)


def test_a_field_is_dropped_with_a_warning(gateway: RunningGateway, fake: FakeProvider) -> None:
    """The answer's headers say what was lost."""
    answer = chat(gateway, "picky-model", seed=1)
    assert "seed" in answer.headers["x-gateway-warnings"]
    assert "seed" not in fake.seen("picky")[-1].body


@pytest.mark.parametrize(("field", "value"), [("logit_bias", {"1": 1}), ("temperature", 1.5)])
def test_a_field_is_refused(gateway: RunningGateway, fake: FakeProvider, field: str, value: Any) -> None:
    """Where nobody else can serve it, the caller is told which field and why, and nothing is sent."""
    before = len(fake.seen("picky"))
    fields: dict[str, Any] = {field: value}
    answer = chat(gateway, "picky-model", **fields)
    assert (answer.status, answer.error["param"]) == (400, field)
    assert len(fake.seen("picky")) == before


@pytest.mark.parametrize(("field", "value"), [("logit_bias", {"1": 1}), ("temperature", 1.5)])
def test_another_candidate_takes_it(gateway: RunningGateway, field: str, value: Any) -> None:
    """Where the next candidate takes the field, it serves the request; nothing has failed."""
    fields: dict[str, Any] = {field: value}
    answer = chat(gateway, "picky", **fields)
    assert answer.status == 200
    assert answer.headers["x-gateway-deployment"] == "open/open-model"
    assert answer.headers["x-gateway-attempts"] == "1"


def test_nobody_takes_it(gateway: RunningGateway) -> None:
    """However many candidates refuse it, the caller is told of the field."""
    answer = chat(gateway, "pickiest", logit_bias={"1": 1})
    assert (answer.status, answer.error["param"]) == (400, "logit_bias")


def test_what_was_never_sent_costs_nothing(gateway: RunningGateway) -> None:
    """A key with a budget gets back what was held for a candidate that could not be asked."""
    key = key_with(gateway, budget={"usd": "1", "per": "day", "hard": True})
    with Talk(gateway, key) as talk:
        request = {"messages": HELLO, "temperature": 1.5}
        refused = talk.ask(CHAT, {"model": "picky-model", **request})
        served = talk.ask(CHAT, {"model": "picky", **request})
    assert (refused.status, served.status) == (400, 200), served.raw
    (held,) = entries(gateway, refused.request_id)
    assert (held["settlement"], held["cost_nano_usd"]) == ("void", 0)
    booked = {row["deployment"]: row["cost_nano_usd"] for row in entries(gateway, served.request_id, 2)}
    assert booked == {"picky/picky-model": 0, "open/open-model": 15_000}
    left = dict(part.split("=") for part in served.headers["x-gateway-budget"].split("; ")[1:])
    assert float(left["left_usd"]) > 0.9
