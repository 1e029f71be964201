"""Versions and decisions by the command, where no process of its own is needed to see what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from admin_api import ADMIN, DOCUMENT
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.log import configure_logging


@pytest.fixture
def tiergate(admin: Any) -> Iterator[Any]:
    """The command for the running admin API; gives what it printed."""
    configure_logging("error", "json")

    async def run(*words: str, status: int = 0) -> Result:
        env = {"TIERGATE_URL": admin.url, "TIERGATE_ADMIN_TOKEN": ADMIN, "COLUMNS": "200"}
        result = await asyncio.to_thread(CliRunner().invoke, app, list(words), env=env)
        assert result.exit_code == status, result.output
        return result

    yield run
    structlog.reset_defaults()


async def test_two_files_are_compared_offline(tiergate: Any, tmp_path: Path) -> None:
    """Also where one cannot be read."""
    one, two, bad = (tmp_path / name for name in ("one.yaml", "two.yaml", "bad.yaml"))
    one.write_text(DOCUMENT)
    two.write_text(DOCUMENT.replace("[beta, alpha]", "[alpha]"))
    bad.write_text("models: 3")
    said = (await tiergate("catalog", "diff", str(one), str(two))).stdout
    assert said == "tier fast: models: removed beta\n"
    assert (await tiergate("catalog", "diff", str(one), str(one))).stdout == "no difference\n"
    assert "must be a mapping" in (await tiergate("catalog", "diff", str(one), str(bad), status=1)).stderr


async def test_a_file_that_is_not_there_is_a_sentence(tiergate: Any, tmp_path: Path) -> None:
    """On standard error, with the exit status."""
    missing = await tiergate("catalog", "publish", str(tmp_path / "none.yaml"), status=1)
    assert "cannot be read: No such file" in missing.stderr
    assert "no catalog version" in (await tiergate("catalog", "rollback", "ffff", status=1)).stderr


async def test_a_problem_names_the_file_that_has_it(admin: Any, tiergate: Any, tmp_path: Path) -> None:
    """Not the one that is in force, whose line it would be looked for in."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(DOCUMENT + "extra: 1\n")
    line = DOCUMENT.count("\n") + 1
    for command in ("publish", "diff"):
        assert f"bad.yaml:{line}: extra: " in (await tiergate("catalog", command, str(bad), status=1)).stderr
    nameless = await admin("POST", "/admin/api/catalog/publish", {"document": "models: 3"})
    assert "\ndocument:1: " in nameless.error["message"]


async def test_what_is_in_force_is_compared_with_a_file(admin: Any, tiergate: Any, tmp_path: Path) -> None:
    """And with a former version once something was published."""
    new = tmp_path / "new.yaml"
    new.write_text(DOCUMENT.replace("[beta, alpha]", "[alpha]"))
    first = admin.living.source.current.version
    assert "removed beta" in (await tiergate("catalog", "diff", str(new))).stdout
    published = await tiergate("catalog", "publish", str(new), "--expected", first)
    assert f"catalog {admin.living.source.current.version} is in force" in published.stdout
    assert "removed beta" in (await tiergate("catalog", "diff", first)).stdout
    stale = await tiergate("catalog", "publish", str(new), "--expected", first, status=1)
    assert "409" in stale.stderr


async def test_decisions_on_several_models_tell_each_outcome(admin: Any, tiergate: Any) -> None:
    """What is refused is on standard error and in the exit status; the rest is done."""
    done = await tiergate("models", "disable", "beta", "nobody", status=1)
    assert done.stdout == "beta: disabled\n"
    assert "nobody" in done.stderr
    assert (await tiergate("models", "enable", "beta")).stdout == "beta: enabled\n"
    await tiergate("models", "deprecate", "beta", "--replacement", "alpha")
    assert admin.living.source.current.targets["beta"].substituted == "beta"
    await tiergate("models", "default", "two", "alpha")
    assert admin.living.source.current.providers["two"].defaults == {"text": "alpha"}


async def test_lists_and_what_waits_are_shown(admin: Any, tiergate: Any) -> None:
    """Names of providers' making are shown as they are, markup included; a failing list is told."""
    admin.answers["one.example"] = (200, {"data": [{"id": "[red]x[/red]"}]})
    admin.answers["two.example"] = (500, {})
    found = (await tiergate("models", "discover")).stdout
    assert "one/[red]x[/red]" in found
    assert "failed" in found
    waiting = (await tiergate("models", "waiting")).stdout
    assert "one/[red]x[/red]" in waiting
    assert "one: 1 listed, just now" in waiting
    await tiergate("models", "reject", "one/[red]x[/red]")
    assert "[red]x" not in (await tiergate("models", "waiting")).stdout
    assert "[red]x" in (await tiergate("models", "waiting", "--status", "rejected", "--format", "json")).stdout


@pytest.mark.parametrize(
    "words",
    [
        ("models", "approve", "a", "--input-price", "1"),
        ("models", "approve", "a", "b", "--name", "c"),
        ("models", "approve"),
    ],
)
async def test_options_that_do_not_go_together_are_usage_errors(tiergate: Any, words: tuple[str, ...]) -> None:
    """Before anything is asked."""
    await tiergate(*words, status=2)
