"""Who may come in: odd credentials, guessed ones, roles, paths that go round the guard (cases S1, S2, S4-S9, S31)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fake_catalog import catalog_for
from fakes import FakeProvider, eventually
from redis import Redis
from running import ADMIN_TOKEN, APP_KEY, RunningGateway, running_gateway
from stores import StoreServer
from talk import CHAT, HELLO, Answer, Headers, Talk, admin, key_with, say

from gateway.admin.routes import OPERATIONS
from gateway.callers.keys import mint

ASK = {"model": "sandbox", "messages": HELLO}
PLACES = [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/models/sandbox"), ("POST", "/v1/feedback")]
PLACES += [("GET", "/metrics"), ("GET", "/admin/api/keys"), ("POST", "/admin/api/keys"), ("GET", "/admin/api/report")]


def ask(gateway: RunningGateway, method: str, path: str, headers: Headers) -> Answer:
    with Talk(gateway) as talk:
        return talk.ask(path, ASK if method == "POST" else None, method=method, headers=headers)


def refusal(answer: Answer) -> dict[str, object]:
    """The error without what tells one answer from the next."""
    return {name: value for name, value in answer.error.items() if name != "request_id"}


NO_CREDENTIAL: dict[str, list[tuple[str, str]]] = {
    "empty": [("authorization", "")],
    "only the scheme": [("authorization", "Bearer")],
    "the scheme and a blank": [("authorization", "Bearer ")],
    "two": [("authorization", f"Bearer {APP_KEY}"), ("authorization", f"Bearer {APP_KEY}")],
    "two that differ": [("authorization", "Bearer x"), ("authorization", f"Bearer {APP_KEY}")],
    "another scheme": [("authorization", f"Basic {APP_KEY}")],
    "no scheme": [("authorization", APP_KEY)],
    "two of Anthropic's": [("authorization", ""), ("x-api-key", APP_KEY), ("x-api-key", APP_KEY)],
    "a cookie": [("authorization", ""), ("cookie", f"session={ADMIN_TOKEN}; __Host-session={ADMIN_TOKEN}")],
}


@pytest.mark.parametrize(("method", "path"), PLACES, ids=lambda part: part)
def test_no_credential_is_one_answer_everywhere(gateway: RunningGateway, method: str, path: str) -> None:
    """S1, S28: none, an empty one and two of them get a 401 in the same words; a cookie is no credential."""
    answers = [ask(gateway, method, path, headers) for headers in NO_CREDENTIAL.values()]
    assert [answer.status for answer in answers] == [401] * len(answers)
    assert all(refusal(answer) == refusal(answers[0]) for answer in answers)
    assert refusal(answers[0])["code"] == "invalid_api_key"


def test_a_request_without_any_header(gateway: RunningGateway) -> None:
    """S1: 401 as well."""
    assert say(gateway, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", end=True).startswith(b"HTTP/1.1 401 ")


MARK = "zzmarkzz"
STRANGE = [
    f"'{MARK}; DROP",
    f'"{MARK}"',
    f"{MARK}\x00",
    f"{{0.__class__}}{MARK}",
    f"{MARK}é🚀",
    MARK * 1250,
    f"%s%n{MARK}",
]
STRANGE += [f"gw1_main_{MARK}", f"gw1_main_{'a' * 12}_{MARK}{'0' * 41}", f"gw1_{MARK}_{'a' * 12}_{'0' * 49}"]
STRANGE += [f"x\r\nx-{MARK}: y", f"{{t:main}}:k:{MARK}", f"gw1_*_{'?' * 12}_{MARK}"]


def test_strange_keys_are_wrong_keys(gateway: RunningGateway) -> None:
    """S2: 401 in the same words, or the message is no HTTP; nothing of the text is shown, logged or told the store."""
    with watched_store(gateway) as commands:
        for place in ("authorization: Bearer ", "x-api-key: "):
            for key in STRANGE:
                raw = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n{place}{key}\r\ncontent-length: 0\r\n\r\n"
                received = say(gateway, raw.encode(), end=True)
                assert received.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))
                assert MARK.encode() not in received
    assert not [command for command in commands if MARK in command]
    assert MARK not in gateway.log.read_text()


def test_keys_that_cannot_be_keys_never_reach_the_store(gateway: RunningGateway) -> None:
    """S31: of a thousand keys with a wrong checksum none costs a look-up, and a good key is served meanwhile."""
    good = mint("main", "a" * 12).reveal()
    wrong = [good[:-6] + f"{number:06d}" for number in range(1000)]
    with watched_store(gateway) as commands, Talk(gateway) as guessing, Talk(gateway) as healthy:
        for number, key in enumerate(wrong):
            answer = guessing.ask("/v1/models", method="GET", headers={"authorization": f"Bearer {key}"})
            assert answer.status == 401
            if number % 100 == 0:
                assert healthy.ask(CHAT, ASK).status == 200
    assert not [command for command in commands if ":k:" in command]


def test_guessing_is_throttled_and_a_good_key_is_not(gateway: RunningGateway) -> None:
    """S31: well-formed keys that nobody has cost a few look-ups; then they wait, and known keys do not."""
    with watched_store(gateway) as commands, Talk(gateway) as talk:
        known = {"authorization": f"Bearer {key_with(gateway)}"}
        assert talk.ask("/v1/models", method="GET", headers=known).status == 200
        statuses = []
        for _ in range(1500):
            guess = {"authorization": f"Bearer {mint('main', 'b' * 12).reveal()}"}
            statuses.append(talk.ask("/v1/models", method="GET", headers=guess).status)
        assert talk.ask("/v1/models", method="GET", headers=known).status == 200
        assert talk.ask("/v1/models", method="GET", headers={"authorization": f"Bearer {APP_KEY}"}).status == 200
    assert set(statuses) == {401, 429}
    assert len([command for command in commands if ":k:" + "b" * 12 in command]) == statuses.count(401)
    time.sleep(0.2)  # a few tries come back, for the tests that follow


@contextmanager
def watched_store(gateway: RunningGateway) -> Iterator[list[str]]:
    """Every command that the gateway's embedded store is sent meanwhile; complete once the block is left."""
    commands: list[str] = []
    marker = f"watched-{time.monotonic_ns()}"
    with Redis(unix_socket_path=gateway.store_socket) as store, store.monitor() as monitor:

        def listen() -> None:
            for told in monitor.listen():
                if marker in told["command"]:
                    return
                commands.append(told["command"])

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield commands
        with Redis(unix_socket_path=gateway.store_socket) as other:
            other.echo(marker)
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("host", ["x/#@evil", "a/b?c=", "a b", "<x>", "x\r\nhost: y"])
@pytest.mark.parametrize("token", [ADMIN_TOKEN, APP_KEY, "wrong"])
def test_an_odd_host_opens_nothing(gateway: RunningGateway, host: str, token: str) -> None:
    """S4: 400 on admin routes, and of two anywhere; elsewhere the name means nothing, and the key counts as ever."""
    lines = f"host: {host}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    assert say(gateway, f"GET /admin/api/keys HTTP/1.1\r\n{lines}".encode()).startswith(b"HTTP/1.1 400 ")
    elsewhere = say(gateway, f"GET /v1/models HTTP/1.1\r\n{lines}".encode())
    status = b"400" if "\r\n" in host else b"401" if token == "wrong" else b"200"
    assert elsewhere.startswith(b"HTTP/1.1 %b " % status)


NOT_ROUTES = [
    *("//admin", "//admin/api/keys", "/admin//api/keys", "/v1/../admin/api/keys", "/admin/api/../api/keys"),
    *("/%2e%2e/admin/api/keys", "/v1/%2e%2e/admin/api/keys", "/v1/..%2fadmin%2fapi%2fkeys", "/ADMIN/api/keys"),
    *("/admin/api/KEYS", "/admin/api/keys;x", "/admin/api/keys%00", "/admin/api/keys%0d%0ax:%20y", "/admin/api/keys/"),
    *("/admin", "/admin/", "/admin/api", "/v1/models/../../admin/api/keys", "/v1/models/..%2f..%2fadmin%2fapi%2fkeys"),
    *("\\admin\\api\\keys", "/admin/api/keys%20", "/admin/api/./keys", "http://x//admin/api/keys"),
]


@pytest.mark.parametrize("path", NOT_ROUTES)
def test_no_way_round_the_guard(gateway: RunningGateway, path: str) -> None:
    """S5: what only looks like a route is none, for whomever; nobody learns more by it."""
    for token in (APP_KEY, ADMIN_TOKEN, "wrong"):
        lines = f"host: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        received = say(gateway, f"GET {path} HTTP/1.1\r\n{lines}".encode())
        assert re.match(rb"HTTP/1.1 40[014] ", received), received
        assert b'"data"' not in received


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_an_app_key_opens_no_admin_door(gateway: RunningGateway, operation: object) -> None:
    """S7: 403 at each operation, whatever it takes."""
    path = re.sub(r"\{[a-z_]+(:path)?\}", "abcdefghijkl", operation.path)  # type: ignore[attr-defined]
    answer = ask(gateway, operation.method, path, {"authorization": f"Bearer {APP_KEY}"})  # type: ignore[attr-defined]
    assert (answer.status, answer.error["code"]) == (403, "forbidden")


def test_only_admins_make_keys(gateway: RunningGateway) -> None:
    """S7: neither finance nor operations."""
    for role in ("finance", "ops"):
        with Talk(gateway, key_with(gateway, role=role)) as talk:
            answer = talk.ask("/admin/api/keys", {"name": "mine"})
            assert (answer.status, answer.error["code"]) == (403, "forbidden")


def test_no_key_reaches_further_than_its_maker(gateway: RunningGateway) -> None:
    """S8: wider tiers, later expiry, another tenant and unknown fields are refused, on making and on changing."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    maker = key_with(gateway, role="admin", tiers=["t0"], expires_at=soon)
    within = {"name": "x", "tiers": ["t0"], "expires_at": soon}
    with Talk(gateway, maker) as talk:
        made = talk.ask("/admin/api/keys", within)
        assert made.status == 201
        for change in ({"tiers": None}, {"tiers": ["t0", "t1"]}, {"expires_at": None}, {"tenant": "other"}):
            assert talk.ask("/admin/api/keys", {**within, **change}).status == 403, change
        for change in ({"key_id": "a"}, {"permissions": ["infer"]}, {"role": "root"}, {"role": ["admin"]}):
            assert talk.ask("/admin/api/keys", {**within, **change}).status == 400, change
        changed = talk.ask(f"/admin/api/keys/{made.body['id']}", {"tiers": None}, method="PATCH")
        assert changed.status == 403
    with Talk(gateway, made.body["key"]) as talk:
        assert talk.ask(CHAT, {**ASK, "model": "sandbox"}).status == 403


def test_a_revoked_or_expired_key_is_dead_on_every_replica(fake_pair: list[RunningGateway]) -> None:
    """S9: within five seconds at the gateway that did not hear of it, at once at the one that did."""
    here, there = fake_pair
    ends = datetime.now(UTC) + timedelta(seconds=4)
    key, expiring = key_with(here), key_with(here, expires_at=ends.isoformat())
    with Talk(there, key) as first, Talk(there, expiring) as second:
        assert first.ask(CHAT, ASK).status == second.ask(CHAT, ASK).status == 200
        key_id = key.split("_")[2]
        assert admin(here, f"/keys/{key_id}", method="DELETE").status == 200
        revoked = time.monotonic()
        with Talk(here, key) as at_home:
            assert at_home.ask(CHAT, ASK).status == 401
        eventually(lambda: first.ask(CHAT, ASK).status == 401)
        assert time.monotonic() - revoked < 6
        eventually(lambda: second.ask(CHAT, ASK).status == 401)
        assert datetime.now(UTC) - ends < timedelta(seconds=2)


@pytest.fixture
def fake_pair(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningGateway]]:
    """Two gateways on one store."""
    store = StoreServer(tmp_path_factory.mktemp("s"))
    store.start()
    env = {"TIERGATE_REDIS_URL": f"unix://{store.socket}", "TIERGATE_PEPPER": "p" * 32}
    try:
        with FakeProvider() as fake:
            providers = {"one": {"adapter": "sandbox", "base_url": None, "allow_private": None}}
            catalog = catalog_for(fake, tmp_path / "catalog.yaml", {"sandbox": ["one"]}, providers=providers)
            with (
                running_gateway(tmp_path / "a", catalog=catalog, env=env) as here,
                running_gateway(tmp_path / "b", catalog=catalog, env=env) as there,
            ):
                yield [here, there]
    finally:
        store.stop()
