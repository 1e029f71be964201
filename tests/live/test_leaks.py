"""Secrets and prompts: none in a gateway's log, store, files, metrics and errors (cases S18, S21, S22, S32)."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import answers
import pytest
from fake_catalog import catalog_for
from fakes import End, FakeProvider, Reply, error_reply, eventually, json_reply, stream_reply
from redis import Redis
from running import ADMIN_TOKEN, RunningGateway, running_gateway
from talk import CHAT, Answer, Talk, events_of

from gateway.admin.routes import OPERATIONS

SECRETS = {  # none of them looks like a key, so that no pattern hides it
    "app key": "canaryForAnApp0123456789",
    "admin token": "canaryForAnAdmin0123456789",
    "pepper": "canaryForThePepper0123456789abcdef",
    "provider's key": "canaryForTheProvider0123456789",
    "alert secret": "canaryForAlerts0123456789",
}
_UPSTREAM = "provider's key"
PROMPT = "canary-prompt-my-card-is-4111111111111111"
ANSWER = "canary-answer-your-card-is-4111111111111111"
TIERS = ("fast", "claude", "gemini")


@pytest.fixture
def bare(fake: FakeProvider, tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway with default settings, whose every secret is a canary."""
    keyed = {"api_key": "env:UPSTREAM_KEY", "retries": 0}
    apis = {
        "claude": {"adapter": "anthropic", "base_url": f"{fake.url}/claude/v1"},
        "gemini": {"adapter": "gemini", "base_url": f"{fake.url}/gemini/v1beta"},
    }
    catalog = catalog_for(
        fake,
        tmp_path / "catalog.yaml",
        {**{tier: [tier] for tier in TIERS}, "sandbox": ["sandbox"], "hurried": ["slow"]},
        providers={
            **{
                tier: {"api_key": "env:UPSTREAM_KEY", "breaker": False, "retries": 0, **apis.get(tier, {})}
                for tier in TIERS
            },
            "slow": {**keyed, "timeouts": {"first_byte_s": 0.2}},
            "sandbox": {"adapter": "sandbox", "base_url": None, "allow_private": None},
        },
        models={"sandbox": {"deployments": [{"provider": "sandbox", "id": "sandbox-small"}]}},
    )
    env = {
        "TIERGATE_APP_KEY": SECRETS["app key"],
        "TIERGATE_ADMIN_TOKEN": SECRETS["admin token"],
        "TIERGATE_PEPPER": SECRETS["pepper"],
        "TIERGATE_ALERT_SECRET": SECRETS["alert secret"],
        "TIERGATE_ALERT_WEBHOOK": f"{fake.url}/webhook",
        "UPSTREAM_KEY": SECRETS["provider's key"],
    }
    with running_gateway(tmp_path / "gateway", catalog=catalog, env=env) as running:
        yield running


def request(model: str, **fields: Any) -> dict[str, Any]:
    """A request that says the prompt wherever a prompt may stand."""
    tool = {"name": "look_up", "description": PROMPT, "parameters": {"type": "object", "properties": {PROMPT: {}}}}
    call = {
        "id": "call_abcdefghi",
        "type": "function",
        "function": {"name": "look_up", "arguments": json.dumps({"q": PROMPT})},
    }
    messages = [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_abcdefghi", "content": PROMPT},
        {"role": "user", "content": PROMPT},
    ]
    return {
        "model": model,
        "messages": messages,
        "tools": [{"type": "function", "function": tool}],
        "stop": [PROMPT],
        **fields,
    }


def failures() -> list[Reply]:
    """How a provider may fail, with our credential among its words."""
    leak = f"Bearer {SECRETS[_UPSTREAM]} and {SECRETS[_UPSTREAM]} for {PROMPT}"
    said = [error_reply(status, f"code-{SECRETS[_UPSTREAM]}", leak) for status in (400, 401, 403, 404, 409, 413, 422)]
    said += [error_reply(status, "x", leak, retry_after="0") for status in (429, 500, 502, 503, 529)]
    said += [Reply(200, {"content-type": "application/json"}, [leak.encode()]), Reply(steps=[End.RESET])]
    return said


def ask(
    gateway: RunningGateway, path: str, body: Any = None, *, method: str = "POST", key: str = "app key", **more: str
) -> Answer:
    with Talk(gateway, SECRETS.get(key, key)) as talk:
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        return talk.ask(path, body, method=method, headers=headers)


def drive(gateway: RunningGateway, fake: FakeProvider) -> list[Answer]:
    """Every kind of request and of failure; gives the answers that are not a model's."""
    told: list[Answer] = []
    for tier in TIERS:
        for stream in (False, True):
            answer = ask(gateway, CHAT, request(tier, stream=stream), x_gateway_session="s-1", x_gateway_explain="1")
            assert answer.status == 200, answer.raw
    good = json_reply(answers.completion(ANSWER))
    fake.script("fast", good, stream_reply(answers.chunks(ANSWER)), good)
    assert ask(gateway, CHAT, request("fast")).status == 200
    assert ask(gateway, CHAT, request("fast", stream=True)).text == ANSWER
    for _ in range(2):
        assert ANSWER in ask(gateway, CHAT, request("fast"), idempotency_key="once").raw.decode()
    told.append(ask(gateway, CHAT, request("fast", n=2), idempotency_key="once"))
    for tier in TIERS:
        for reply in failures():
            for stream in (False, True):
                fake.script(tier, reply)
                failed = ask(gateway, CHAT, request(tier, stream=stream))
                assert failed.status >= 400
                told.append(failed)
    begun = answers.chunks(ANSWER)[:2]
    leak = {"error": {"message": f"{SECRETS[_UPSTREAM]} {PROMPT}", "code": SECRETS[_UPSTREAM]}}
    for last in ([End.RESET], [leak], [b"data: {" + SECRETS[_UPSTREAM].encode() + b"\n\n"]):
        fake.script("fast", stream_reply([*begun, 0.1, *last], done=False))
        cut = ask(gateway, CHAT, request("fast", stream=True))
        told.append(Answer(cut.status, cut.headers, json.dumps(list(events_of(cut.raw))[-1]).encode()))
    fake.script("slow", Reply(steps=[End.HANG]))
    told.append(ask(gateway, CHAT, request("hurried")))
    steers = ("error=401", "error=429,retry_after=0", "error=500", "cut_after=3", "bogus=1")
    told += [ask(gateway, CHAT, request("sandbox", metadata={"sandbox": steer})) for steer in steers]
    told += refused(gateway)
    told += administered(gateway)
    return told


def refused(gateway: RunningGateway) -> list[Answer]:
    """Requests that the gateway itself refuses."""
    bodies: list[Any] = [
        request(PROMPT),
        request("fast", temperature=PROMPT),
        request("fast", api_key=SECRETS["app key"]),
        request("fast", gateway={"tags": {"a": PROMPT + "\n"}}),
        request("fast", gateway={PROMPT: 1}),
        request("fast", gateway={"max_cost_usd": "0.000000001"}),
        request("fast", messages=[{"role": PROMPT, "content": PROMPT}]),
        request("fast", messages=[{"role": "user", "content": {PROMPT: PROMPT}}]),
        b'{"model":"fast","messages":[{"role":"user","content":"%b' % PROMPT.encode(),
        b'{"model":"fast","model":"%b","messages":[{"role":"user","content":"x"}]}' % PROMPT.encode(),
    ]
    given = [ask(gateway, CHAT, body) for body in bodies]
    given.append(ask(gateway, CHAT, request("fast"), key=PROMPT))
    given.append(ask(gateway, CHAT, request("fast"), content_encoding="gzip"))
    given.append(ask(gateway, f"/v1/models/{PROMPT}", method="GET"))
    given.append(ask(gateway, "/v1/feedback", {"request_id": PROMPT}))
    return given


def administered(gateway: RunningGateway) -> list[Answer]:
    """Every operation of the admin API, asked for nothing in particular and with a canary in what it takes."""
    given = []
    for operation in OPERATIONS:
        path = re.sub(r"\{[a-z_]+(:path)?\}", "abcdefghijkl", operation.path)
        for key in ("admin token", "app key"):
            body = None if operation.method == "GET" else {"document": f"a: {SECRETS[_UPSTREAM]}"}
            given.append(ask(gateway, path, body, method=operation.method, key=key))
    made = ask(gateway, "/admin/api/keys", {"name": "app"}, key="admin token")
    SECRETS["minted key"] = made.body["key"]
    used = ask(gateway, CHAT, request("fast"), key="minted key")
    assert used.status == 200
    rotated = ask(gateway, f"/admin/api/keys/{made.body['id']}/rotate", {}, key="admin token")
    SECRETS["rotated key"] = rotated.body["key"]
    given += [ask(gateway, "/admin/api/keys", method="GET", key="admin token")]
    given += [ask(gateway, f"/admin/api/explain?request_id={used.request_id}", method="GET", key="admin token")]
    given += [ask(gateway, "/metrics", method="GET", key="admin token")]
    return given


def kept_by(gateway: RunningGateway) -> dict[str, bytes]:
    """Everything that the gateway keeps: log, files (unpacked), and each record of its store."""
    kept: dict[str, bytes] = {"log": gateway.log.read_bytes()}
    for path in gateway.data_dir.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            kept[str(path.relative_to(gateway.data_dir))] = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    with Redis(unix_socket_path=gateway.store_socket) as store:
        for name in store.scan_iter(count=1000):
            kept[f"store {name.decode()}"] = name + repr(_value(store, name)).encode()
    return kept


def _value(store: Any, name: bytes) -> Any:
    read = {
        b"string": lambda: store.get(name),
        b"hash": lambda: store.hgetall(name),
        b"list": lambda: store.lrange(name, 0, -1),
        b"set": lambda: store.smembers(name),
        b"zset": lambda: store.zrange(name, 0, -1, withscores=True),
        b"stream": lambda: store.xrange(name),
    }
    return read[store.type(name)]()


@pytest.mark.timeout(300)
def test_nothing_secret_is_kept_or_told(bare: RunningGateway, fake: FakeProvider) -> None:
    """S21, S22: after every kind of request and failure, no credential and no word of a prompt or an answer is in the
    log, the store, the files, the metrics or an error."""
    told = drive(bare, fake)
    time.sleep(1)  # writers work a few times a second
    assert eventually(lambda: b'"request"' in bare.log.read_bytes())
    kept = kept_by(bare)
    assert any(name.startswith("wal/") for name in kept)
    assert [name for name, data in kept.items() if name.startswith("store {t:main}") and b"bootstrapapp" in data]
    # what a caller itself sent as the name of a model or a field may stand in its own error, cut short
    for secret, text in SECRETS.items():
        found = [name for name, data in kept.items() if text.encode() in data]
        assert not found, f"the {secret} is in {found}"
        shown = [answer.raw for answer in told if text.encode() in answer.raw or text in json.dumps(answer.headers)]
        assert not shown, f"the {secret} is told: {shown[:1]}"
    for text in (PROMPT, ANSWER):
        found = [name for name, data in kept.items() if text.encode() in data]
        assert not found, f"{text[:13]} is in {found}"
    metrics = ask(bare, "/metrics", method="GET", key="admin token").raw.decode()
    assert "canary" not in metrics


def test_every_line_of_the_log_is_an_object(bare: RunningGateway, fake: FakeProvider) -> None:
    """S18: whatever was sent, libraries' own words included, each line after the greeting is one JSON object."""
    fake.script("fast", *failures())
    told = [ask(bare, CHAT, request("fast", stream=n % 2 == 1, user="a\r\nb")) for n in range(len(failures()))]
    assert {answer.status for answer in told} > {400, 429, 502}
    refused(bare)
    with Talk(bare, SECRETS["app key"]) as talk:
        talk.connection.connect()
        talk.connection.sock.sendall(b"no HTTP\r\n\r\n")
        talk.connection.sock.recv(1000)
    eventually(lambda: b'"request"' in bare.log.read_bytes())
    lines = bare.log.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("{"))
    greeting, rest = lines[:first], [line for line in lines[first:] if line and not line.startswith("  ")]
    assert all(line == "" or line.startswith("  ") for line in greeting)
    for line in rest:
        assert isinstance(json.loads(line), dict), line


STRANGERS = {
    "/healthz": 200,
    "/readyz": 200,
    "/metrics": 401,
    "/v1/models": 401,
    "/admin/api/openapi.json": 401,
    "/admin/api/health": 401,
    **dict.fromkeys(("/", "/docs", "/redoc", "/openapi.json", "/debug", "/debug/pprof", "/status", "/config"), 404),
    **dict.fromkeys(("/.env", "/server-status", "/actuator", "/health/liveliness", "/v1", "/admin"), 404),
}


@pytest.mark.parametrize("path", list(STRANGERS))
def test_strangers_learn_only_that_it_lives(gateway: RunningGateway, path: str) -> None:
    """S32: no version, no model, no path of a file, no name of a library."""
    with Talk(gateway) as talk:
        answer = talk.ask(path, method="GET", headers={"authorization": ""})
    assert answer.status == STRANGERS[path]
    assert "server" not in answer.headers
    said = answer.raw.decode().lower()
    assert not re.search(r"uvicorn|starlette|python|redis|valkey|/tmp|/work|traceback|sandbox", said)
    if answer.status == 200:
        assert set(answer.body) <= {"status", "problems"}


def test_labels_of_metrics_are_bounded(gateway: RunningGateway) -> None:
    """S32: names that callers make up become no label."""
    with Talk(gateway) as talk:
        for number in range(100):
            body = {"model": f"made-up-{number}", "messages": [{"role": "user", "content": "x"}]}
            assert talk.ask(CHAT, body, headers={"x-gateway-tags": f"made=up-{number}"}).status == 404
            body["model"] = "sandbox"
            options = {"x-gateway-session": f"made-up-{number}", "x-gateway-tags": f"made=up-{number}"}
            assert talk.ask(CHAT, body, headers=options).status == 200
    with Talk(gateway, ADMIN_TOKEN) as talk:
        metrics = talk.ask("/metrics", method="GET").raw.decode()
    assert "tiergate_requests_total" in metrics
    assert "made" not in metrics
