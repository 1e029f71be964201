"""`tiergate experiments`, against a real admin API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from admin_api import ADMIN
from typer.testing import CliRunner

from gateway.cli.main import app

Run = Callable[..., Coroutine[Any, Any, str]]


@pytest.fixture
def tiergate(admin: Any) -> Run:
    """The command; gives what it prints."""

    async def run(*words: str, status: int = 0) -> str:
        env = {"TIERGATE_URL": admin.url, "TIERGATE_ADMIN_TOKEN": ADMIN}
        result = await asyncio.to_thread(CliRunner().invoke, app, ["experiments", *words], env=env)
        assert result.exit_code == status, result.output
        return result.output

    return run


async def test_the_list_tells_how_each_stands(tiergate: Run) -> None:
    """A stopped canary with its reason, until it is resumed."""
    listed = await tiergate("list")
    assert "size" in listed
    assert "stopped: error rate 27%, the rest's is 0%" in listed
    assert "next runs again" in await tiergate("resume", "next")
    assert "stopped" not in await tiergate("list")
    assert "No canary 'next' is stopped" in await tiergate("resume", "next", status=1)


async def test_the_report_compares_the_arms(tiergate: Run) -> None:
    """Cost in exact decimals, also per request; an arm without requests has empty cells."""
    (large,) = [line for line in (await tiergate("report", "size")).splitlines() if "large" in line]
    for cell in ("1,234", "5,000", "0.0015", "0.000375", "liked 2"):
        assert cell in large
    as_json = json.loads(await tiergate("report", "size", "--format", "json", "--from", "2026-11-20"))
    assert as_json["from"] == "2026-11-20"
    assert [arm["cost_usd"] for arm in as_json["arms"]] == ["0.0015", "0.00"]
    assert "No experiment 'other'" in await tiergate("report", "other", status=1)
