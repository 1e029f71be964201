"""`tiergate catalog` and `tiergate models`, run as commands."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
from catalog_texts import PRICED
from typer.testing import CliRunner, Result

from gateway.catalog.reference import render_reference
from gateway.catalog.validate import json_schema
from gateway.cli import catalog, main, models, prices


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(PRICED + "tiers:\n  fast: {models: [m]}\n")
    return path


def run(app: object, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])  # type: ignore[arg-type]


def test_check_says_that_a_document_is_good(file: Path) -> None:
    """With its version and what is in it."""
    result = run(catalog.app, "check", file)
    assert result.exit_code == 0
    assert result.stdout.endswith("is good: 1 models, 1 deployments, 1 tiers; 1 of 1 providers can be used now\n")


def test_the_command_tells_its_version() -> None:
    """`tiergate --version`."""
    result = run(main.app, "--version")
    assert (result.exit_code, result.stdout) == (0, f"tiergate {version('tiergate')}\n")


def test_check_lists_every_problem_and_fails(file: Path) -> None:
    """Exit code 1; the place, the value and the fix of each."""
    file.write_text(file.read_text().replace("models: [m]", "models: [n], polcy: [cheapest]"))
    result = run(catalog.app, "check", file)
    assert result.exit_code == 1
    first, second, summary = result.stderr.splitlines()
    assert first == f"{file}:21: tiers.fast.models[0]: unknown model 'n' — known: m"
    assert second == f"{file}:21: tiers.fast.polcy: unknown key 'polcy' — did you mean 'policy'?"
    assert summary == f"{file}: 2 problems; this document cannot take effect"


def test_check_prints_warnings_and_passes(file: Path) -> None:
    """A stale price is no reason to refuse the document."""
    file.write_text(file.read_text().replace("checked: 2026-11-20", "checked: 2020-01-01"))
    result = run(catalog.app, "check", file)
    assert result.exit_code == 0
    assert f"warning: {file}:18: models.m.prices[0].checked: was last checked on 2020-01-01" in result.stderr


def test_check_takes_the_file_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the gateway does."""
    monkeypatch.setenv("TIERGATE_CATALOG", str(file))
    assert "1 models" in run(catalog.app, "check").stdout


def test_check_of_a_missing_file_says_so(tmp_path: Path) -> None:
    """With the system's reason."""
    result = run(catalog.app, "check", tmp_path / "none.yaml")
    assert result.exit_code == 1
    assert "none.yaml: cannot be read: No such file or directory" in result.stderr


def test_show_lists_tiers_and_providers(file: Path) -> None:
    """And whether each deployment can be used."""
    result = run(catalog.app, "show", file)
    assert result.exit_code == 0
    for word in ("fast", "local/m", "https://llm.example/v1", "yes"):
        assert word in result.stdout


def test_schema_and_reference_are_printed_or_written(tmp_path: Path) -> None:
    """The schema as JSON, the reference as Markdown."""
    assert msgspec.json.decode(run(catalog.app, "schema").stdout) == json_schema()
    assert run(catalog.app, "reference", "--write", tmp_path / "fields.md").exit_code == 0
    assert (tmp_path / "fields.md").read_text() == render_reference()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], True),
        (["--require", "text_input,text_output"], True),
        (["--require", "image_input"], False),
        (["--provider", "local"], True),
        (["--max-input-price", "1.25"], True),
        (["--max-input-price", "1.24"], False),
    ],
)
def test_models_are_listed_by_capability_provider_and_price(file: Path, options: list[str], found: bool) -> None:
    """The price is that in force, for a million input tokens; an amount equal to the limit is within it."""
    result = run(models.app, "list", "--catalog", file, *options)
    assert result.exit_code == 0
    assert ("1.25" in result.stdout) is found
    assert ("no model fits" in result.stdout) is not found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--require", "image"], "unknown capability 'image'"),
        (["list", "--provider", "nobody"], "unknown provider 'nobody'"),
        (["list", "--max-input-price", "cheap"], "'cheap' is no amount"),
        (["list", "--max-input-price", "Infinity"], "'Infinity' is no amount"),
        (["show", "mm"], "unknown model 'mm'"),
    ],
)
def test_wrong_arguments_are_named(file: Path, arguments: list[str], said: str) -> None:
    """Exit code 2, as for every wrong use of a command."""
    result = run(models.app, *arguments, "--catalog", file)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("command", [(models.app, "show"), (prices.app, "show"), (prices.app, "history")])
def test_names_that_apps_send_are_understood(
    file: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[object, str]
) -> None:
    """Those of a model show it; one of a tier is called so, and nothing is proposed in place of itself."""
    monkeypatch.setenv("COLUMNS", "200")
    file.write_text(file.read_text() + "aliases: {old: fast, small: m}\n")
    for name in ("m", "local/m", "small"):
        shown = run(*command, name, "--catalog", file)
        assert (shown.exit_code, "local/m" in shown.stdout) == (0, True)
    for name in ("fast", "fast@local", "old"):
        refused = run(*command, name, "--catalog", file)
        assert refused.exit_code == 2
        assert f"'{name}' means the tier 'fast', not a model; it has: m" in refused.stderr
    slip = run(*command, "locla/m", "--catalog", file)
    assert "unknown model 'locla/m'; did you mean local/m?" in slip.stderr


def test_search_looks_at_names_guidance_and_upstream_ids(file: Path) -> None:
    """Whatever the case of letters."""
    text = (
        file.read_text()
        .replace("id: m}", "id: vendor-XL}")
        .replace("  m:\n", "  m:\n    guidance: {tips: [Be brief]}\n")
    )
    file.write_text(text)
    for word in ("VENDOR-xl", "be BRIEF"):
        assert "1.25" in run(models.app, "search", word, "--catalog", file).stdout
    assert "no model fits" in run(models.app, "search", "absent", "--catalog", file).stdout


def test_show_tells_what_is_known_of_a_model(file: Path) -> None:
    """Prices to come are shown beside the one in force."""
    row = "      - {from: 2999-01-01, usd_per_mtok: {input: 7, output: 8}, source: x, checked: 2026-11-20}\n"
    file.write_text(file.read_text().replace("    deployments:", row + "    deployments:"))
    result = run(models.app, "show", "m", "--catalog", file)
    assert result.exit_code == 0
    for word in ("text_input", "local/m", "1.25", "2999-01-01", "7"):
        assert word in result.stdout
