"""What differs between two documents, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.catalog.diff import describe_changes
from gateway.catalog.load import check_text

NOW = 1_795_219_200.0


def changes(before: str, after: str, traffic: Mapping[str, Mapping[str, int]] | None = None) -> list[str]:
    read = [check_text(text.encode(), "c")[1] for text in (before, after)]
    return describe_changes(*read, NOW, traffic or {})


def test_the_same_document_differs_in_nothing(document: str) -> None:
    """Nor does one that differs in comments alone."""
    assert changes(document, "# a comment\n" + document) == []


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            "aliases: {gpt-3.5-turbo: fast}",
            "aliases: {gpt-4: fast}",
            ["alias gpt-3.5-turbo: removed", "alias gpt-4: added"],
        ),
        (
            "models: [gpt-5-mini, claude-haiku-4-5]",
            "models: [claude-haiku-4-5, gpt-5-mini]",
            ["tier fast: models: now in the order claude-haiku-4-5, gpt-5-mini"],
        ),
        (
            "policy: [healthy, cheapest]",
            "policy: [healthy, {balanced: {cost: 1}}]",
            ["tier fast: policy: added {balanced: {cost: 1}}", "tier fast: policy: removed cheapest"],
        ),
        (
            "lacks: [image_input]",
            "weight: 3",
            ["model gpt-5-mini: deployments: added {provider: local, id: mini, weight: 3, prices: []}"],
        ),
        ("released: 2025-08-07", "status: disabled", ["model gpt-5-mini: released: 2025-08-07 -> (none)"]),
        ("presets:", "default_tier: fast\npresets:", ["default tier: (none) -> fast"]),
        (
            'input: "0.25", cache_read: "0.025"',
            'input: "0.20", cache_read: "0.02"',
            [
                "model gpt-5-mini: price from 2025-08-07: $0.20 in, $2.00 out per million tokens "
                "(input -20.0 %, output +0.0 %)"
            ],
        ),
    ],
)
def test_each_change_is_a_sentence(document: str, old: str, new: str, lines: list[str]) -> None:
    """By section and name."""
    said = changes(document, document.replace(old, new, 1))
    assert [line for line in lines if line not in said] == []


def test_traffic_tells_what_a_price_means(document: str) -> None:
    """What was carried, by the old and the new prices in force, and their sum; models without traffic do not count."""
    after = document.replace('input: "1.00", output: "5.00"', 'input: "2.00", output: "5.00"')
    traffic = {
        "anthropic/claude-haiku-4-5": {"input": 3_000_000, "output": 1_000_000},
        "openai/gpt-5-mini": {"input": 4},
    }
    said = changes(document, after, traffic)
    assert "cost: anthropic/claude-haiku-4-5: the traffic looked at would cost $11.00 in place of $8.00" in said
    assert said[-1] == "cost: all traffic looked at: $11.000001 in place of $8.000001 +37.5 %"


def test_a_model_with_traffic_that_goes_is_told(document: str) -> None:
    """Its requests will go elsewhere or fail; what that costs is for the simulation to say."""
    after = document.replace("      - {provider: anthropic, id: claude-haiku-4-5-20251001}\n", "").replace(
        "    deployments:\ntiers", "tiers"
    )
    said = changes(document, after, {"anthropic/claude-haiku-4-5": {"input": 1}})
    assert "cost: anthropic/claude-haiku-4-5 carried traffic and is gone or has no price" in said


def test_a_price_to_come_changes_no_cost_yet(document: str) -> None:
    """It is told as a row."""
    row = "      - {from: 2027-01-01, usd_per_mtok: {input: 9, output: 9}, source: x}\n    deployments:"
    said = changes(document, document.replace("    deployments:", row, 1), {"openai/gpt-5-mini": {"input": 1_000_000}})
    assert len(said) == 1
    assert said[0].startswith("model gpt-5-mini: price from 2027-01-01: $9.00 in, $9.00 out")
