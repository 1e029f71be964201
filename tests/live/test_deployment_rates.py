"""What may be asked of a deployment holds for all tenants and replicas together; who finds it full goes elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import answers
import pytest
from fake_catalog import catalog_for, model_of
from fakes import FakeProvider, Gate, Reply, error_reply, eventually, json_reply, stream_reply
from fleet import Fleet, running_fleet
from running import APP_KEY, RunningGateway
from stores import StoreServer
from talk import CHAT, HELLO, Answer, Talk, admin, chat, entries, key_with

LIMITS: dict[str, dict[str, int]] = {
    "rpm": {"rpm": 4},
    "tpm": {"tpm": 2_000},
    "busy": {"concurrency": 2},
    **{f"full{n}": {"rpm": 1} for n in range(5)},
    "only": {"rpm": 1},
    "narrow": {"rpm": 1},
    "spent": {"rpm": 15},
    "absurd": {"tpm": 2_000},
}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    """Of this module alone: no script that another test left is answered here."""
    with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def two(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two gateways on one store."""
    folder: Path = tmp_path_factory.mktemp("deployments")
    full = [f"full{n}" for n in range(5)]
    catalog = catalog_for(
        fake,
        folder / "catalog.yaml",
        {
            **{name: [name, f"{name}-next"] for name in ("rpm", "tpm", "busy", "absurd")},
            "many": [*full, "free"],
            "after": ["failing", "narrow", "last"],
            **{name: [name] for name in ("only", "spent")},
        },
        models={name: {"deployments": [{"provider": name, "id": "x", **most}]} for name, most in LIMITS.items()},
    )
    with tempfile.TemporaryDirectory(prefix="tg-") as place:
        store = StoreServer(Path(place))
        store.start()
        with running_fleet(folder, catalog, f"unix://{store.socket}", 2) as fleet:
            yield fleet
        store.stop()


@pytest.fixture(scope="module")
def keys(two: Fleet) -> list[str]:
    """An app key of each of two tenants."""
    gateway = two.gateways[0]
    body = {"name": "their admin", "role": "admin", "tenant": "acme"}
    founder = admin(gateway, "/keys", body, method="POST").body["key"]
    with Talk(gateway, founder) as talk:
        headers = {"content-type": "application/json"}
        theirs = talk.ask("/admin/api/keys", {"name": "their app"}, headers=headers)
    assert theirs.status == 201, theirs.raw
    return [APP_KEY, theirs.body["key"]]


def ask(gateway: RunningGateway, key: str, model: str, **fields: Any) -> Answer:
    return chat(gateway, model, headers={"authorization": f"Bearer {key}"}, **fields)


def served_by(answer: Answer) -> str:
    assert answer.status == 200, answer.raw
    return answer.headers["x-gateway-deployment"].partition("/")[0]


def test_a_rate_is_shared_by_tenants_and_replicas(two: Fleet, keys: list[str]) -> None:
    """Of eight requests within a few seconds, four find room; each of the others is served by the next candidate."""
    given = [ask(gateway, key, "rpm") for _ in range(2) for gateway in two.gateways for key in keys]
    assert [served_by(answer) for answer in given] == ["rpm"] * 4 + ["rpm-next"] * 4
    assert {answer.headers["x-gateway-attempts"] for answer in given} == {"1"}  # nobody was asked in vain


def test_tokens_follow_the_usage(two: Fleet, keys: list[str], fake: FakeProvider) -> None:
    """A request that may use most of the minute moves another's on; once it has used less, there is room again."""
    gate = Gate()
    good = json_reply(answers.completion())
    fake.script("tpm", Reply(200, good.headers, [gate, *good.steps]))
    with Talk(two.gateways[0], keys[0]) as talk:
        talk.send(CHAT, {"model": "tpm", "messages": HELLO, "max_tokens": 1_500})
        eventually(lambda: fake.seen("tpm"))
        assert served_by(ask(two.gateways[1], keys[1], "tpm", max_tokens=1_500)) == "tpm-next"
        gate.open()
        assert talk.receive().status == 200
    eventually(lambda: served_by(ask(two.gateways[1], keys[1], "tpm", max_tokens=1_500)) == "tpm")


@pytest.mark.parametrize("stream", [False, True])
def test_absurd_usage_is_no_usage(two: Fleet, keys: list[str], fake: FakeProvider, stream: bool) -> None:
    """More tokens than can be count for nothing: caller and books are told an estimate, and there is room as before."""
    absurd = {"prompt_tokens": 10**11, "completion_tokens": 10**11, "total_tokens": 2 * 10**11}
    events = [*answers.chunks("Hello.")[:-1], answers.usage_chunk(absurd)]
    fake.script("absurd", stream_reply(events) if stream else json_reply(answers.completion(usage=absurd)))
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = ask(two.gateways[0], keys[0], "absurd", **options)
    told = answer.events[-2]["usage"] if stream else answer.body["usage"]
    assert (served_by(answer), told["completion_tokens"]) == ("absurd", 2)  # six bytes of answer
    (entry,) = entries(two.gateways[0], answer.request_id)
    assert (entry["usage_source"], entry["usage"]["output"]) == ("estimated", 2)
    assert served_by(ask(two.gateways[1], keys[1], "absurd")) == "absurd"
    assert "usage_out_of_range" in two.gateways[0].log.read_text()


def test_requests_at_once(two: Fleet, keys: list[str], fake: FakeProvider) -> None:
    """Two run, one at each replica; a third goes elsewhere until one of them has ended."""
    gate = Gate()
    good = json_reply(answers.completion())
    fake.script("busy", *[Reply(200, good.headers, [gate, *good.steps])] * 2)
    with Talk(two.gateways[0], keys[0]) as one, Talk(two.gateways[1], keys[1]) as other:
        for talk in (one, other):
            talk.send(CHAT, {"model": "busy", "messages": HELLO})
        eventually(lambda: len(fake.seen("busy")) == 2)
        assert served_by(ask(two.gateways[0], keys[1], "busy")) == "busy-next"
        gate.open()
        assert {talk.receive().status for talk in (one, other)} == {200}
    eventually(lambda: served_by(ask(two.gateways[1], keys[0], "busy")) == "busy")


def test_as_many_as_are_full_are_passed_by(two: Fleet, keys: list[str]) -> None:
    """A full deployment is no failed attempt: five of them in a row cost neither retries nor entries."""
    given = [ask(two.gateways[n % 2], keys[n % 2], "many") for n in range(7)]
    assert [served_by(answer) for answer in given] == [*(f"full{n}" for n in range(5)), "free", "free"]
    assert {answer.headers["x-gateway-attempts"] for answer in given} == {"1"}
    assert len(entries(two.gateways[0], given[6].request_id)) == 1


def test_a_full_one_is_passed_by_after_a_failure_too(two: Fleet, keys: list[str], fake: FakeProvider) -> None:
    """The one that failed is the only attempt beside the one that answers."""
    assert served_by(ask(two.gateways[1], keys[1], model_of("narrow"))) == "narrow"
    fake.script("failing", error_reply(500))
    answer = ask(two.gateways[0], keys[0], "after")
    assert (served_by(answer), answer.headers["x-gateway-attempts"]) == ("last", "2")
    assert len(entries(two.gateways[0], answer.request_id, 2)) == 2


def test_refused_where_nobody_is_left(two: Fleet, keys: list[str]) -> None:
    """With 429 and the time until there is room, which SDKs wait for; nothing is booked."""
    assert served_by(ask(two.gateways[0], keys[0], "only")) == "only"
    refused = ask(two.gateways[1], keys[1], model_of("only"))
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert "only/only-model is at its limit of 1 requests per minute" in refused.error["message"]
    assert 50 < int(refused.headers["retry-after"]) <= 60
    again = ask(two.gateways[1], keys[1], "only")  # where it rests by now it is asked all the same, as the last resort
    assert again.status == 429


def test_a_tenants_own_refusal_takes_no_room(two: Fleet, keys: list[str]) -> None:
    """Whoever has spent its budget leaves the deployment to others: thirty refusals do not use up fifteen a minute."""
    gateway = two.gateways[0]
    poor = key_with(gateway, budget={"usd": "0", "per": "day"})
    refused = [ask(gateway, poor, "spent", max_tokens=5) for _ in range(30)]
    assert {answer.error["code"] for answer in refused} == {"insufficient_quota"}
    served = [ask(gateway, keys[1], "spent") for _ in range(5)]
    assert [answer.status for answer in served] == [200] * 5, [answer.raw for answer in served]
