"""docs/keys-and-reports.md says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.admin.bodies import NewKey
from gateway.callers.roles import Role
from gateway.ledger.records import DIMENSIONS

TEXT = (Path(__file__).parents[2] / "docs" / "keys-and-reports.md").read_text()


@pytest.mark.parametrize("name", [*Role, *(f for f in NewKey.model_fields if f != "tenant"), *DIMENSIONS])
def test_roles_fields_and_dimensions_are_described(name: str) -> None:
    """Each stands there by its name."""
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("command", ["create", "list", "show", "update", "rotate", "revoke"])
def test_commands_are_described(command: str) -> None:
    """Each with an example."""
    assert f"tiergate keys {command}" in TEXT
