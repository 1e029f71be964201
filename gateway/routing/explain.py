"""A plan in words: as a JSON object for the admin API and the terminal, and as a line for a response header."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.money import usd
from gateway.types import Candidate, Drop, Plan

MOST_HEADER_BYTES = 4096
"""Larger headers are refused by common proxies; what does not fit is counted instead."""


def explain(plan: Plan) -> dict[str, Any]:
    """The plan as a JSON object. Costs are what this request is expected to cost, in US dollars as decimal text."""
    return {
        "alias": plan.alias,
        "tier": plan.tier,
        "substituted": plan.substituted,
        "candidates": [_candidate(rank, candidate) for rank, candidate in enumerate(plan.candidates, 1)],
        "dropped": [_drop(drop) for drop in plan.dropped],
        "arms": {arm.experiment: arm.name for arm in plan.arms},
        "steps": list(plan.steps),
    }


def explain_header(plan: Plan) -> bytes:
    """The plan as one line of ASCII for a response header: candidates and drops, cut where it grows too long."""
    said: dict[str, Any] = {
        "tier": plan.tier,
        "candidates": [
            {"deployment": c.deployment.name, "expected_usd": None if c.expected_nano is None else usd(c.expected_nano)}
            for c in plan.candidates
        ],
        "dropped": [_drop(drop) for drop in plan.dropped],
    }
    line = _ascii(said)
    while len(line) > MOST_HEADER_BYTES and (said["dropped"] or said["candidates"]):
        longest = said["dropped"] or said["candidates"]
        cut = max(1, len(longest) // 4)
        del longest[-cut:]
        said["omitted"] = said.get("omitted", 0) + cut
        line = _ascii(said)
    return line


def _candidate(rank: int, candidate: Candidate) -> dict[str, Any]:
    deployment = candidate.deployment
    return {
        "rank": rank,
        "deployment": deployment.name,
        "provider": deployment.provider.name,
        "model": deployment.model.name,
        "region": deployment.region,
        "price": candidate.price.price_id if candidate.price is not None else None,
        "expected_usd": None if candidate.expected_nano is None else usd(candidate.expected_nano),
    }


def _drop(drop: Drop) -> dict[str, str]:
    return {"deployment": drop.deployment, "rule": drop.rule, "reason": drop.reason}


def _ascii(value: Any) -> bytes:
    text = msgspec.json.encode(value).decode()
    return "".join(c if c.isascii() else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else "?" for c in text).encode()
