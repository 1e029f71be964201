"""Looking over an installation."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from stores import StoreServer
from typer.testing import CliRunner

from gateway.catalog.doctor import Finding, look_at_disk, look_at_providers, look_at_store
from gateway.cli.main import app
from gateway.upstream.client import Upstream

NOW = 1_795_219_200.0


def network(status: int = 200, ids: tuple[str, ...] = ("gpt-5-mini-2025-08-07", "mini"), behind_s: float = 0) -> Any:
    """Providers that all answer so."""

    def answer(request: httpx.Request) -> httpx.Response:
        date = format_datetime(datetime.fromtimestamp(NOW - behind_s, UTC), usegmt=True)
        if status == 200 and request.method == "POST":
            return httpx.Response(400, json={})
        return httpx.Response(status, json={"data": [{"id": i} for i in ids]}, headers={"date": date})

    return Upstream(httpx.MockTransport(answer))


async def looked(compiled: Any, upstream: Upstream) -> list[Finding]:
    snapshot = compiled(env={"OPENAI_API_KEY": "sk-x"})
    return await look_at_providers(snapshot, upstream, lambda: NOW)


async def test_a_healthy_installation_has_nothing_to_mend(compiled: Any) -> None:
    """Providers without a key are told apart from those that fail."""
    found = await looked(compiled, network())
    assert {(f.level, f.subject) for f in found} == {
        ("ok", "provider openai"),
        ("ok", "provider local"),
        ("unused", "provider anthropic"),
    }


async def test_a_refused_key_is_a_failure(compiled: Any) -> None:
    """With the status, and never the key."""
    failed = [f for f in await looked(compiled, network(401)) if f.level == "failed"]
    assert {f.subject for f in failed} == {"provider openai", "provider local"}
    assert all("401" in f.text and "sk-x" not in f.text for f in failed)


async def test_models_that_are_not_listed_and_a_wrong_clock_are_warned_of(compiled: Any) -> None:
    """Each by name."""
    warned = [f for f in await looked(compiled, network(ids=("mini",), behind_s=90)) if f.level == "warning"]
    texts = [f"{f.subject}: {f.text}" for f in warned]
    assert "provider openai: does not list gpt-5-mini-2025-08-07 (openai/gpt-5-mini)" in texts
    assert "clock: ours is 90 s ahead of that of provider openai; synchronise it" in texts


async def test_the_store_is_looked_at(session_store: StoreServer) -> None:
    """One that is not there fails; what it would do when full is looked at, too."""
    assert (await look_at_store("redis://127.0.0.1:1")).level == "failed"
    assert (await look_at_store("ftp://x")).level == "failed"
    assert (await look_at_store(str(session_store.socket))).level in ("ok", "warning")


def test_the_disk_is_looked_at(tmp_path: Path) -> None:
    """Also where the folder is yet to be made."""
    assert look_at_disk(tmp_path / "yet" / "to" / "come").subject == "disk"
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        assert look_at_disk(tmp_path).level == "failed"


@pytest.mark.parametrize("all_", [False, True])
def test_the_command_tells_it_in_a_table(tmp_path: Path, all_: bool) -> None:
    """With the shipped sandbox alone, nothing fails."""
    file = tmp_path / "catalog.yaml"
    file.write_text(
        "providers:\n  sandbox: {adapter: sandbox}\n  other: {adapter: anthropic, api_key: env:NOBODY}\n"
        "models:\n  m: {capabilities: [text_input], deployments: [{provider: sandbox, id: sandbox-small}]}\n"
    )
    words = ["doctor", "--catalog", str(file), "--data-dir", str(tmp_path / "data"), *(["--all"] if all_ else [])]
    result = CliRunner().invoke(app, words, env={"REDIS_URL": "", "TIERGATE_REDIS_URL": ""})
    assert result.exit_code == 0, result.output
    assert "provider sandbox" in result.stdout
    assert ("set NOBODY" in result.stdout) == all_
