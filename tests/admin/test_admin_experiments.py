"""Decisions and experiments over the admin API."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import SetClock


@pytest.mark.parametrize(("last", "seconds"), [("90m", 5400), ("24h", 86_400), ("7d", 604_800)])
async def test_decisions_are_lines_since_a_time(admin: Any, clock: SetClock, last: str, seconds: int) -> None:
    """Streamed as NDJSON, for the caller who asks."""
    answer = await admin("GET", f"/admin/api/decisions?last={last}")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text == '{"format":"tiergate.decisions.1"}\n'
    assert admin.seen["decisions"][0] == clock() - seconds


@pytest.mark.parametrize("last", ["", "0h", "24", "1w", "-1h", "9999999h"])
async def test_an_odd_span_is_refused(admin: Any, last: str) -> None:
    """Minutes, hours or days."""
    answer = await admin("GET", f"/admin/api/decisions?last={last}")
    assert (answer.status, answer.error["param"]) == (400, "last")


async def test_an_experiment_is_reported_by_whole_days(admin: Any) -> None:
    """This month until today unless said otherwise; one that nobody knows of is not found."""
    answer = await admin("GET", "/admin/api/experiments/size")
    assert (answer.json["from"], answer.json["to"]) == ("2026-11-01", "2026-11-22")
    assert [arm["arm"] for arm in answer.json["arms"]] == ["large", "small"]
    assert (await admin("GET", "/admin/api/experiments/next")).json["arms"] == []
    assert (await admin("GET", "/admin/api/experiments/other")).status == 404
    partly = await admin("GET", "/admin/api/experiments/size?from=2026-11-01T05:00:00Z")
    assert (partly.status, partly.error["param"]) == (400, "from")


async def test_resuming_a_canary_is_audited(admin: Any) -> None:
    """Before it happens, and again where it did not: there is nothing to resume in one that runs."""
    assert (await admin("POST", "/admin/api/experiments/next/resume")).json["state"] == "running"
    assert (await admin("POST", "/admin/api/experiments/next/resume")).status == 404
    said = (await admin("GET", "/admin/api/audit")).json["data"]
    assert {(entry["action"], entry["target"]) for entry in said} == {("experiment.resume", "experiment:next")}
    assert [entry["outcome"] for entry in reversed(said)] == ["done", "done", "failed"]
