"""docs/routing.md tells of every policy, option and need there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.routing.options import OPTION_NAMES
from policies import POLICIES

TEXT = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()


def section(title: str) -> str:
    """The text under a heading."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> set[str]:
    """The first word of each row of the section's table."""
    return set(re.findall(r"^\| `(\w+)", section(title), re.MULTILINE))


def test_every_policy_is_documented_and_no_other() -> None:
    """A policy that operators cannot read about is not there for them."""
    assert first_cells("Policies") == set(POLICIES)


def test_every_option_is_documented_with_its_header() -> None:
    """As field and as header."""
    assert first_cells("What a caller may ask") == set(OPTION_NAMES)
    for field in OPTION_NAMES:
        assert f"`x-gateway-{field.replace('_', '-')}`" in section("What a caller may ask")


@pytest.mark.parametrize("rule", ["status", "capability", "access", "context", "price_known", "max_cost", "healthy"])
def test_every_rule_that_always_holds_is_documented(rule: str) -> None:
    """They show up in explanations under these names."""
    assert f"`{rule}`:" in section("Rules that always hold")
