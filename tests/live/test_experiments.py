"""Experiments, canaries and shadows over a whole gateway: who serves, what is booked, what the report says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import answers
import pytest
from fake_catalog import catalog_for, model_of
from fakes import NEVER, FakeProvider, error_reply, eventually, json_reply, stream_reply
from running import ADMIN_TOKEN, RunningGateway, running_gateway
from talk import Talk, admin, chat, entries, key_with

ONE, TWO, COPY = model_of("one"), model_of("two"), model_of("copy")
SIZE = {"name": "size", "arms": {"small": {"models": [ONE]}, "large": {"models": [TWO]}}}
TONE = {"name": "tone", "arms": {"cool": {"params": {"temperature": 0.1}}, "warm": {"params": {"temperature": 0.9}}}}
NEXT = {"name": "next", "models": ["new-model"], "share": "100%", "least": 3}


def shadow(to: str, usd: str = "1") -> dict[str, Any]:
    return {"shadow": {"name": "look", "to": to, "share": "100%", "budget": {"usd": usd, "per": "day"}}}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def gateway(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("experiments")
    tiers = {"ab": ["one", "two"], "tone": ["one"], "next": ["old", "new"], "seen": ["shown"], "poor": ["shown2"]}
    policies: dict[str, list[Any]] = {
        "ab": ["healthy", {"experiment": SIZE}],
        "tone": ["healthy", {"experiment": TONE}],
        "next": ["healthy", "ordered", {"canary": NEXT}],
        "seen": ["healthy", shadow(COPY)],
        "poor": ["healthy", {"shadow": {**shadow("unpaid/unpaid-model", "0.000001")["shadow"], "name": "poor"}}],
    }
    catalog = catalog_for(
        fake,
        folder / "catalog.yaml",
        {**tiers, "copies": ["copy", "unpaid"]},
        tier_fields={name: {"policy": policy} for name, policy in policies.items()},
    )
    with running_gateway(folder, catalog=catalog) as running:
        yield running


def arms(gateway: RunningGateway, name: str) -> dict[str, Any]:
    """The experiment's report by arm."""
    today = datetime.now(UTC).date()
    answer = admin(gateway, f"/experiments/{name}?from={today - timedelta(days=1)}&to={today + timedelta(days=1)}")
    assert answer.status == 200, answer.raw
    return {arm["arm"]: arm for arm in answer.body["arms"]}


def give_feedback(gateway: RunningGateway, key: str | None = None, **fields: Any) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with Talk(gateway) as talk:
        return talk.ask("/v1/feedback", fields, headers=headers)


def test_both_arms_serve_are_booked_and_reported(gateway: RunningGateway, fake: FakeProvider) -> None:
    """A user stays in an arm; the ledger's entries carry it, and the report has cost, latency, errors and feedback."""
    served: dict[str, str] = {}
    for user in (f"user {n}" for n in range(12)):
        answers_of = [chat(gateway, "ab", user=user) for _ in range(2)]
        (provider,) = {answer.headers["x-gateway-deployment"].partition("/")[0] for answer in answers_of}
        served[answers_of[0].request_id] = {"one": "small", "two": "large"}[provider]
        (booked,) = entries(gateway, answers_of[0].request_id)
        assert booked["tags"] == {"experiment:size": served[answers_of[0].request_id]}
    assert set(served.values()) == {"small", "large"}

    for request_id, arm in served.items():
        given = give_feedback(gateway, request_id=request_id, score=0.5 if arm == "small" else -0.5, label="seen")
        assert (given.status, given.body["arms"]) == (200, {"size": arm})

    def complete() -> dict[str, Any] | None:
        found = arms(gateway, "size")
        return found if sum(arm["attempts"] for arm in found.values()) == 24 else None

    report = eventually(complete)
    for name, score in (("small", 0.5), ("large", -0.5)):
        arm, users = report[name], sum(1 for found in served.values() if found == name)
        assert (arm["requests"], arm["errors"], arm["attempts"]) == (2 * users, 0, 2 * users)
        assert arm["mean_latency_ms"] is not None
        assert arm["cost_nano_usd"] > 0
        assert arm["feedback"] == {"count": users, "scored": users, "mean_score": score, "labels": {"seen": users}}
    today = datetime.now(UTC).date()
    days = f"from={today - timedelta(days=1)}&to={today + timedelta(days=1)}"
    rows = admin(gateway, f"/report?by=tag:experiment:size&{days}").body["rows"]
    by_arm = {row["tag:experiment:size"]: row["cost_nano_usd"] for row in rows}
    assert {name: by_arm[name] for name in report} == {name: arm["cost_nano_usd"] for name, arm in report.items()}


def test_an_arm_may_differ_in_parameters(gateway: RunningGateway, fake: FakeProvider) -> None:
    """They are sent upstream, unless the caller gives its own."""
    before = len(fake.seen("one"))
    for n in range(10):
        chat(gateway, "tone", user=f"user {n}")
    chat(gateway, "tone", temperature=0.5)
    sent = [seen.body["temperature"] for seen in fake.seen("one")[before:]]
    assert set(sent[:-1]) == {0.1, 0.9}
    assert sent[-1] == 0.5


def test_a_failing_canary_is_stopped_until_it_is_resumed(gateway: RunningGateway, fake: FakeProvider) -> None:
    """Callers get their answers from the rest all along; health says what happened."""
    assert chat(gateway, "next").headers["x-gateway-deployment"] == "new/new-model"
    fake.script("new", *[error_reply(500)] * 2)
    for _ in range(4):
        assert chat(gateway, "next").status == 200

    def standing() -> dict[str, Any]:
        (found,) = admin(gateway, "/health").body["canaries"]
        return dict(found)

    stopped = eventually(lambda: (now := standing())["state"] == "stopped" and now)
    assert "error rate" in stopped["reason"]
    seen = len(fake.seen("new"))
    assert [chat(gateway, "next").headers["x-gateway-deployment"] for _ in range(3)] == ["old/old-model"] * 3
    assert len(fake.seen("new")) == seen
    assert admin(gateway, "/experiments/next/resume", method="POST").status == 200
    assert standing()["state"] == "running"
    assert chat(gateway, "next").headers["x-gateway-deployment"] == "new/new-model"
    assert admin(gateway, "/experiments/next/resume", method="POST").status == 404
    assert "experiment.resume" in str(admin(gateway, "/audit").body)


@pytest.mark.parametrize("stream", [False, True])
def test_a_copy_is_sent_after_the_answer_and_booked_apart(
    gateway: RunningGateway, fake: FakeProvider, stream: bool
) -> None:
    """Unstreamed, under the key `shadow`, with its own arm; the caller's answer and cost are its own."""
    answer = chat(gateway, "seen", stream=stream, messages=[{"role": "user", "content": "Copy me"}])
    assert answer.status == 200
    assert answer.headers["x-gateway-deployment"] == "shown/shown-model"
    booked = {row["deployment"]: row for row in entries(gateway, answer.request_id, 2)}
    own, copied = booked["shown/shown-model"], booked["copy/copy-model"]
    assert (own["tags"], copied["tags"]) == ({"experiment:look": "primary"}, {"experiment:look": "shadow"})
    assert (copied["key"], copied["team"], copied["usage_source"]) == ("shadow", "", "provider")
    assert own["key"] != "shadow"
    sent = fake.seen("copy")[-1].body
    assert sent["messages"] == [{"role": "user", "content": "Copy me"}]
    assert "stream" not in sent and "stream_options" not in sent
    assert eventually(lambda: arms(gateway, "look").get("shadow", {}).get("requests", 0) > 0)


@pytest.mark.parametrize("reply", [NEVER, error_reply(500), json_reply({"not": "a completion"})])
def test_no_caller_notices_a_bad_copy(gateway: RunningGateway, fake: FakeProvider, reply: Any) -> None:
    """It hangs, fails or answers nonsense, and the next request is served as the first."""
    fake.script("copy", reply)
    for _ in range(2):
        assert chat(gateway, "seen").headers["x-gateway-attempts"] == "1"


def test_copies_stop_at_their_budget(gateway: RunningGateway, fake: FakeProvider) -> None:
    """What it cannot pay is not sent; the caller is served all the same."""
    fake.script("shown2", stream_reply(answers.chunks("One two")))
    answer = chat(gateway, "poor", stream=True)
    assert answer.text == "One two"
    assert eventually(lambda: b'experiment="poor",outcome="begun"' in admin_metrics(gateway))
    assert len(entries(gateway, answer.request_id, 1)) == 1
    assert fake.seen("unpaid") == []


def test_copies_are_held_to_the_tenants_budget(fake: FakeProvider, tmp_path: Path) -> None:
    """Their own budget would allow a dollar: what copies and answers cost together never passes a hard one of all."""
    tiers = {"seen": ["shown4"], "copies": ["dear"]}
    policy = ["healthy", shadow(model_of("dear"))]
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", tiers, tier_fields={"seen": {"policy": policy}})
    usage = {"prompt_tokens": 9, "completion_tokens": 1_000, "total_tokens": 1_009}
    with running_gateway(tmp_path, catalog=catalog) as running:
        rule = {"id": "all", "of": "tenant", "usd": "0.01", "per": "total"}
        assert admin(running, "/budgets", rule, method="POST").status == 200
        eventually(lambda: "x-gateway-budget" in chat(running, "copies", max_tokens=1).headers)
        before_it_was_known = len(fake.seen("dear")) * Decimal("0.000015")
        fake.script("dear", *[json_reply(answers.completion(usage=usage))] * 100)
        eventually(lambda: chat(running, "seen", max_tokens=1_000).status == 429)
        eventually(lambda: not admin(running, "/health").body["ledger"]["attempts_open"])
        rows = admin(running, "/report?by=key").body["rows"]
        spent = {row["key"]: Decimal(row["cost_usd"]) for row in rows}
        assert spent["shadow"] > Decimal("0.005")
        assert sum(spent.values()) <= Decimal("0.01") + before_it_was_known


def admin_metrics(gateway: RunningGateway) -> bytes:
    return gateway.get("/metrics", ADMIN_TOKEN)[1]


def test_feedback_is_for_ones_own_requests(gateway: RunningGateway) -> None:
    """Not for another key's, not for what never was, and only within its bounds."""
    answer = chat(gateway, "ab")
    entries(gateway, answer.request_id)
    stranger = key_with(gateway)
    assert give_feedback(gateway, stranger, request_id=answer.request_id, score=1).status == 404
    assert give_feedback(gateway, request_id="req_" + "0" * 32, score=1).status == 404
    for wrong, param in (
        ({"score": 2}, "score"),
        ({"score": "good"}, "score"),
        ({"label": "two words"}, "label"),
        ({"label": "ok", "comment": "x" * 2001}, "comment"),
        ({"label": "ok", "stars": 5}, None),
        ({"comment": "neither"}, "score"),
    ):
        refused = give_feedback(gateway, request_id=answer.request_id, **wrong)
        assert (refused.status, refused.error["param"]) == (400, param)
    finance = key_with(gateway, role="finance")
    assert give_feedback(gateway, finance, request_id=answer.request_id, score=1).status == 403
    assert give_feedback(gateway, request_id=answer.request_id, score=1, comment="Well said.").status == 200


def test_copies_are_few_at_a_time_and_end_with_the_gateway(fake: FakeProvider, tmp_path: Path) -> None:
    """What would be too many is left out; callers wait for none, and neither does a stop."""
    policy = ["healthy", {"shadow": {**shadow(model_of("hung"))["shadow"], "name": "hung"}}]
    tiers = {"seen": ["shown3"], "copies": ["hung"]}
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", tiers, tier_fields={"seen": {"policy": policy}})
    fake.script("hung", *[NEVER] * 30)
    with running_gateway(tmp_path, catalog=catalog) as running:
        answered = [chat(running, "seen") for _ in range(20)]
        assert {answer.status for answer in answered} == {200}
        metrics = admin_metrics(running).decode()
        assert 'tiergate_shadows_total{experiment="hung",outcome="begun"} 16.0' in metrics
        assert 'tiergate_shadows_total{experiment="hung",outcome="busy"} 4.0' in metrics
        assert eventually(lambda: len(fake.seen("hung")) == 16)
        assert running.stop() == 0
    with running_gateway(tmp_path, catalog=catalog) as restarted:
        booked = entries(restarted, answered[0].request_id, 2)
        assert sorted(row["key"] == "shadow" for row in booked) == [False, True]
