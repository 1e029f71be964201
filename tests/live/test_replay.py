"""Past decisions of a whole gateway: explained, exported, and replayed through another document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_catalog import catalog_for, model_of
from fakes import FakeProvider, eventually, json_reply
from running import ADMIN_TOKEN, ROOT, RunningGateway, running_gateway
from talk import Answer, admin, chat, key_with

TIERS = {"fast": ["one", "two"], "smart": ["two"]}


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


def tiergate(gateway: RunningGateway, *words: str, status: int = 0) -> str:
    """What the command prints, with the gateway's address and token."""
    env = {**os.environ, "TIERGATE_URL": gateway.url, "TIERGATE_ADMIN_TOKEN": ADMIN_TOKEN}
    command = [sys.executable, "-m", "gateway.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def simulation(gateway: RunningGateway, document: Path, *words: str, status: int = 0) -> Any:
    return json.loads(tiergate(gateway, "catalog", "simulate", str(document), "--json", *words, status=status))


def asked(gateway: RunningGateway, model: str, **fields: Any) -> str:
    answer = chat(gateway, model, **fields)
    assert answer.status == 200, answer.raw
    return answer.request_id


def test_a_past_request_is_explained_and_reproduced(fake: FakeProvider, tmp_path: Path) -> None:
    """From the same catalog, and after another one took its place; in the terminal and by the admin API."""
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", TIERS)
    with running_gateway(tmp_path, catalog=catalog) as gateway:
        request_id = asked(gateway, "fast")
        said = tiergate(gateway, "explain", request_id)
        assert ": the same." in said
        assert said.index("one/one-model") < said.index("two/two-model")
        catalog_for(fake, catalog, {"fast": ["two"], "smart": ["two"]})
        assert admin(gateway, "/catalog/reload", method="POST").status == 200
        answer = admin(gateway, f"/explain?request_id={request_id}").body
        assert answer["reproduced"] is True
        assert [row["deployment"] for row in answer["plan"]["candidates"]] == ["one/one-model", "two/two-model"]
        refused = chat(gateway, "smart", gateway={"max_cost_usd": "0.000001"})
        assert refused.status == 400
        told = tiergate(gateway, "explain", refused.error["request_id"])
        assert "smart was refused: no_capable_model" in told
        assert ": the same." in told and "more than the cap" in told
        assert "No decision is kept" in tiergate(gateway, "explain", "req_" + "0" * 32, status=1)


def test_another_document_is_simulated(fake: FakeProvider, tmp_path: Path) -> None:
    """The same one moves nobody; one that lacks a model and a tier moves some and loses others, and says so in CI."""
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", TIERS)
    new = tmp_path / "new.yaml"
    with running_gateway(tmp_path, catalog=catalog) as gateway:
        for _ in range(3):
            asked(gateway, "fast")
        asked(gateway, "smart", stream=True)
        same = simulation(gateway, catalog, "--fail-on-move")
        assert (same["requests"], same["moved"], same["unroutable"]) == (4, 0, 0)
        assert same["tiers"]["fast"]["cost_before_usd"] == same["tiers"]["fast"]["cost_after_usd"] != "0.00"

        catalog_for(fake, new, {"fast": ["two"], "smart": ["two"]})
        moved = simulation(gateway, new, "--last", "90m")
        expected = [{"from": "one/one-model", "to": "two/two-model", "requests": 3}]
        assert moved["tiers"]["fast"]["moves"] == expected
        assert moved["unroutable"] == 0
        simulation(gateway, new, "--fail-on-move", status=1)
        assert simulation(gateway, new, "--tier", "smart", "--fail-on-move")["requests"] == 1

        catalog_for(fake, new, {"fast": ["one", "two"]})
        kept = tmp_path / "decisions.ndjson"
        lost = simulation(gateway, new, "--save", str(kept), status=1)
        (row,) = lost["tiers"]["smart"]["unroutable"]
        assert (row["from"], row["code"], row["requests"]) == ("two/two-model", "model_not_found", 1)
        table = tiergate(gateway, "catalog", "simulate", str(new), "--from", str(kept), status=1)
        assert "1 of two/two-model unroutable, model_not_found" in table
        assert "Hello" not in kept.read_text()

        new.write_text("providers: {")
        assert "not valid YAML" in tiergate(gateway, "catalog", "simulate", str(new), status=2)
        kept.write_text("{}\n")
        assert "no recorded decisions" in tiergate(
            gateway, "catalog", "simulate", str(catalog), "--from", str(kept), status=2
        )


def test_decisions_about_vanished_models_are_made_again(fake: FakeProvider, tmp_path: Path) -> None:
    """Before, without and after: each under what was listed then, though the document stayed the same."""
    models = {"one": {"replacement": model_of("two")}}
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", TIERS, models=models)

    def list_of_one(*ids: str) -> None:
        fake.script("one", json_reply({"data": [{"id": i} for i in (*ids, "another")]}))
        answer = admin(gateway, "/models/discover", {"provider": "one", "force": True}, method="POST")
        assert answer.body["data"][0]["state"] == "refreshed", answer.raw

    def served_by(deployment: str) -> Answer | None:
        answer = chat(gateway, model_of("one"))
        assert answer.status == 200, answer.raw
        return answer if answer.headers["x-gateway-deployment"] == deployment else None

    with running_gateway(tmp_path, catalog=catalog) as gateway:
        list_of_one("one-upstream")
        before = asked(gateway, model_of("one"))
        list_of_one()
        without = eventually(lambda: served_by("two/two-model"))
        assert without.headers["x-gateway-substituted"] == model_of("one")
        assert without.headers["deprecation"].startswith("@")
        in_tier = asked(gateway, "fast")
        list_of_one("one-upstream")
        after = eventually(lambda: served_by("one/one-model"))
        for request_id in (before, without.request_id, in_tier, after.request_id):
            assert admin(gateway, f"/explain?request_id={request_id}").body["reproduced"] is True
        assert simulation(gateway, catalog, "--fail-on-move")["moved"] == 0


def test_only_operators_read_decisions(fake: FakeProvider, tmp_path: Path) -> None:
    """Whoever operates the gateway, not an app."""
    catalog = catalog_for(fake, tmp_path / "catalog.yaml", TIERS, models={"two": {"status": "disabled"}})
    with running_gateway(tmp_path, catalog=catalog) as gateway:
        asked(gateway, model_of("one"))
        assert gateway.get("/admin/api/decisions?last=1h")[0] == 403
        ops = key_with(gateway, role="ops")
        status, lines = gateway.get("/admin/api/decisions?last=1h", ops)
        header, line = (json.loads(text) for text in lines.splitlines())
        assert (status, header["format"], header["circumstances"]["now"]) == (200, "tiergate.decisions.1", {})
        assert set(line) == {"id", "record"}
        assert gateway.get("/admin/api/decisions?last=forever", ops)[0] == 400
