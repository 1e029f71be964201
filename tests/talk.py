"""Plain HTTP to a gateway, for what an SDK would hide: raw bytes, odd headers, connections kept or dropped."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fakes import eventually
from running import ADMIN_TOKEN, APP_KEY, RunningGateway

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.body["error"]
        return error

    @property
    def request_id(self) -> str:
        return self.headers["x-gateway-request-id"]

    @property
    def events(self) -> list[Any]:
        """The data of each server-sent event, decoded; `[DONE]` stays text."""
        return list(events_of(self.raw))

    @property
    def text(self) -> str:
        """What a streamed answer says."""
        return "".join(
            choice["delta"].get("content") or ""
            for event in self.events
            if isinstance(event, dict) and "choices" in event
            for choice in event["choices"]
        )


def events_of(raw: bytes) -> Iterator[Any]:
    for block in raw.decode().split("\n\n"):
        data = "\n".join(line.removeprefix("data: ") for line in block.split("\n") if line.startswith("data: "))
        if data:
            yield data if data == "[DONE]" else json.loads(data)


class Talk:
    """One connection to a gateway. Use as a context manager."""

    def __init__(self, gateway: RunningGateway, key: str = APP_KEY, timeout_s: float = 20) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=timeout_s)
        self._key = key

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, path: str, body: Any = None, *, method: str = "POST", headers: Headers = ()) -> None:
        """Sends a request; `body` is JSON unless it is bytes. Without an Authorization header the app key is used."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = list(headers.items() if isinstance(headers, Mapping) else headers)
        names = {name.lower() for name, _ in given}
        if "authorization" not in names:
            given.append(("authorization", f"Bearer {self._key}"))
        if "content-length" not in names and "transfer-encoding" not in names:
            given.append(("content-length", str(len(raw))))
        self.connection.putrequest(method, path)
        for name, value in given:
            self.connection.putheader(name, value)
        self.connection.endheaders(raw)

    def receive(self) -> Answer:
        """The whole answer to what was sent."""
        response = self.connection.getresponse()
        return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())

    def ask(self, path: str, body: Any = None, *, method: str = "POST", headers: Headers = ()) -> Answer:
        self.send(path, body, method=method, headers=headers)
        return self.receive()


def say(gateway: RunningGateway, raw: bytes, *, patience_s: float = 2, end: bool = False) -> bytes:
    """What comes back for raw bytes until the gateway closes; `<open>` stands behind it where it does not.

    `end` shuts our half of the connection, as callers do who have nothing more to say.
    """
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=patience_s) as connection:
        received = b""
        try:
            connection.sendall(raw)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65536):
                received += data
        except TimeoutError:
            return received + b"<open>"
        except ConnectionError:
            pass  # it closed before all of ours was sent
        return received


def chat(gateway: RunningGateway, model: str, /, *, headers: Headers = (), **fields: Any) -> Answer:
    """A chat request on a connection of its own; says hello unless `messages` are given."""
    with Talk(gateway) as talk:
        return talk.ask(CHAT, {"model": model, "messages": HELLO, **fields}, headers=headers)


def admin(gateway: RunningGateway, path: str, body: Any = None, *, method: str = "GET") -> Answer:
    """A request to the admin API as its owner."""
    with Talk(gateway, ADMIN_TOKEN) as talk:
        headers = {} if body is None else {"content-type": "application/json"}
        return talk.ask(f"/admin/api{path}", body, method=method, headers=headers)


def entries(gateway: RunningGateway, request_id: str, count: int = 1) -> list[dict[str, Any]]:
    """The ledger's entries of a request, once there are `count` of them."""
    return _entries(gateway, f"request_id={request_id}", lambda row: True, count)


def entries_at(
    gateway: RunningGateway, deployment: str, count: int = 1, *, or_more: bool = False
) -> list[dict[str, Any]]:
    """The ledger's entries of today at a deployment, once there are `count` of them `or_more`."""
    today = datetime.now(UTC).date()
    period = f"from={today - timedelta(days=1)}&to={today + timedelta(days=2)}"
    return _entries(gateway, period, lambda row: bool(row["deployment"] == deployment), count, or_more)


def _entries(
    gateway: RunningGateway, query: str, wanted: Callable[[dict[str, Any]], bool], count: int, or_more: bool = False
) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        answer = admin(gateway, f"/ledger?{query}")
        assert answer.status == 200, answer.raw
        rows = [row for row in answer.body["data"] if wanted(row)]
        return rows if len(rows) >= count else []

    rows: list[dict[str, Any]] = eventually(found)
    assert or_more or len(rows) == count
    return rows


def key_with(gateway: RunningGateway, **fields: Any) -> str:
    """A fresh virtual key with these fields."""
    answer = admin(gateway, "/keys", {"name": "test", "team": "tests", **fields}, method="POST")
    assert answer.status == 201, answer.raw
    key: str = answer.body["key"]
    return key
