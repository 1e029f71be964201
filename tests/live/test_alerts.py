"""A running gateway tells a webhook what people should hear of: thresholds, vanished models, refused credentials."""

from __future__ import annotations

import contextlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from fake_catalog import catalog_for
from fakes import FakeProvider, error_reply, eventually, json_reply
from running import ADMIN_TOKEN, running_gateway
from talk import admin, chat, entries, key_with

SECRET = "a secret of the tests"


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is posted."""

    told: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        at, _, signed = self.headers["x-tiergate-signature"].removeprefix("t=").partition(",v1=")
        assert signed == hmac.new(SECRET.encode(), f"{at}.".encode() + body, sha256).hexdigest()
        type(self).told.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def receiving() -> Iterator[dict[str, str]]:
    """A webhook that takes everything; gives the settings that name it."""
    Receiver.told = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/alerts"
        yield {"TIERGATE_ALERT_WEBHOOK": address, "TIERGATE_ALERT_SECRET": SECRET}
        server.shutdown()


def test_each_threshold_is_told_once(fake: FakeProvider, tmp_path: Path) -> None:
    """50, 80 and 100 % of a soft budget, while requests go on."""
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", {"fast": ["alerted"]})
    with receiving() as env, running_gateway(tmp_path, catalog=catalog, env=env) as gateway:
        key = key_with(gateway, budget={"usd": "0.00008", "per": "total", "hard": False})
        for _ in range(8):
            assert chat(gateway, "fast", headers={"authorization": f"Bearer {key}"}).status == 200
        eventually(lambda: len(Receiver.told) >= 3)
    assert [alert["percent"] for alert in Receiver.told] == [50, 80, 100]


def test_a_refused_credential_is_told_once(fake: FakeProvider, tmp_path: Path) -> None:
    """D29: and nothing goes out on it any more while others can serve, to whichever of its deployments."""
    catalog = catalog_for(
        fake,
        tmp_path / "catalog.yaml",
        {"fast": ["spent", "other"], "smart": ["more", "other"]},
        models={"more": {"deployments": [{"provider": "spent", "id": "more"}]}},
    )
    with receiving() as env, running_gateway(tmp_path, catalog=catalog, env=env) as gateway:
        fake.script("spent", *[error_reply(429, "insufficient_quota")] * 2)
        for tier in ("fast", "fast", "smart", "smart"):
            assert chat(gateway, tier).headers["x-gateway-deployment"] == "other/other-model"
        (alert,) = eventually(lambda: Receiver.told)
        health = admin(gateway, "/health").body["deployments"]
    assert len(fake.seen("spent")) == 1
    assert (alert["kind"], alert["subject"]) == ("credential_refused", "spent")
    assert 300 <= alert["seconds"] <= 3600
    (rests,) = [d for d in health if d["deployment"] == "spent/spent-model"]
    assert (rests["state"], rests["breaker"]) == ("resting", "closed")
    assert rests["until_at"] - time.time() > 280


def test_a_vanished_model_that_carried_traffic_is_told_once(fake: FakeProvider, tmp_path: Path) -> None:
    """One that carried none is not told of; a second look at the same list tells nothing again."""
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", {"fast": ["used"], "smart": ["unused"]})
    with receiving() as env, running_gateway(tmp_path, catalog=catalog, env=env) as gateway:

        def discover(*ids: str) -> None:
            for provider in ("used", "unused"):
                fake.script(provider, json_reply({"data": [{"id": i} for i in (*ids, "another")]}))
            answer = admin(gateway, "/models/discover", {"force": True}, method="POST")
            assert [row["state"] for row in answer.body["data"]] == ["refreshed"] * 2, answer.raw

        discover("used-upstream", "unused-upstream")
        entries(gateway, chat(gateway, "fast").request_id)
        for _ in range(2):
            discover()
        (alert,) = eventually(lambda: Receiver.told)
        counted = gateway.get("/metrics", ADMIN_TOKEN)[1].decode()
    del alert["at"], alert["text"]
    assert alert == {
        "kind": "model_vanished",
        "subject": "used/used-model",
        "deployment": "used/used-model",
        "provider": "used",
        "upstream_id": "used-upstream",
        "attempts": 1,
        "days": 7,
    }
    assert 'tiergate_catalog_alerts_total{deployment="used/used-model",kind="model_vanished"} 1.0' in counted
