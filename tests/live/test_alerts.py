"""A running gateway tells a real webhook of each threshold of a budget, once."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import Any

from fake_catalog import catalog_for
from fakes import FakeProvider, eventually
from running import running_gateway
from talk import chat, key_with


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is posted."""

    told: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).told.append({**json.loads(body), "signature": self.headers["x-tiergate-signature"]})
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_each_threshold_is_told_once(fake: FakeProvider, tmp_path: Path) -> None:
    """50, 80 and 100 % of a soft budget, while requests go on."""
    Receiver.told = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {
            "TIERGATE_ALERT_WEBHOOK": f"http://127.0.0.1:{server.server_port}/alerts",
            "TIERGATE_ALERT_SECRET": "a secret of the tests",
        }
        catalog = catalog_for(fake, tmp_path / "catalog.yaml", {"fast": ["alerted"]})
        with running_gateway(tmp_path, catalog=catalog, env=env) as gateway:
            key = key_with(gateway, budget={"usd": "0.00008", "per": "total", "hard": False})
            for _ in range(8):
                assert chat(gateway, "fast", headers={"authorization": f"Bearer {key}"}).status == 200
            eventually(lambda: len(Receiver.told) >= 3)
        server.shutdown()
    assert [alert["percent"] for alert in Receiver.told] == [50, 80, 100]
    assert all(alert["signature"].startswith("t=") for alert in Receiver.told)
