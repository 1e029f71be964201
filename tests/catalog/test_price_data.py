"""Prices from public data sets, and how they compare with the catalog's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.catalog.load import check_text
from gateway.catalog.pricedata import PriceData, read_price_data
from gateway.catalog.propose import propose
from gateway.cli.main import app
from gateway.errors import CatalogError

NOW = 1_795_219_200.0  # 2026-11-21
KEYS = {"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-y"}
GENAI = [
    {
        "id": "openai",
        "models": [
            {
                "id": "gpt-5-mini",
                "match": {"or": [{"equals": "gpt-5-mini"}, {"starts_with": "gpt-5-mini-2025"}]},
                "prices": {"input_mtok": 0.25, "cache_read_mtok": 0.03, "output_mtok": {"base": 2, "tiers": []}},
            },
            {
                "id": "dated",
                "match": {"regex": "(a+)+$"},
                "prices": [
                    {"constraint": {"start_date": "2027-01-01"}, "prices": {"input_mtok": 9, "output_mtok": 9}},
                    {"prices": {"input_mtok": 1, "output_mtok": 2}},
                ],
            },
            {
                "id": "changed",
                "match": {"equals": "changed"},
                "prices": [
                    {"prices": {"input_mtok": 5, "output_mtok": 6}},
                    {"constraint": {"start_date": "2026-11-21"}, "prices": {"input_mtok": 3, "output_mtok": 4}},
                    {"constraint": {"start_date": "2026-11-22"}, "prices": {"input_mtok": 9, "output_mtok": 9}},
                    {"constraint": {"start_time": "00:00:00Z"}, "prices": {"input_mtok": 1, "output_mtok": 1}},
                ],
            },
            {"id": "unpriced", "prices": {"input_mtok": 1}},
        ],
    },
    {"id": "google", "models": [{"id": "gemini-x", "prices": {"input_mtok": 1, "output_mtok": 2}}]},
]
LITELLM = {
    "sample_spec": {"litellm_provider": "one of …", "input_cost_per_token": 0},
    "anthropic/claude-haiku-4-5-20251001": {
        "litellm_provider": "anthropic",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 5e-06,
        "cache_read_input_token_cost": 1e-07,
    },
}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], PriceData]:
    def read_(content: Any) -> PriceData:
        file = tmp_path / "data.json"
        text = content if isinstance(content, str) else json.dumps(content)
        file.write_text(text, encoding="latin-1")
        return read_price_data(file, NOW)

    return read_


def test_genai_prices_are_read(read: Callable[[Any], PriceData]) -> None:
    """By id and by rule; the last row whose day has come counts; tiers give their base; regular expressions none."""
    data = read(GENAI)
    quote = data.quote("openai", "gpt-5-mini-2025-08-07")
    assert quote is not None
    assert quote.usd_per_mtok == {"input": "0.25", "output": "2", "cache_read": "0.03"}
    assert quote.source == "genai-prices, unverified"
    dated = data.quote("openai", "dated")
    assert dated is not None
    assert dated.usd_per_mtok == {"input": "1", "output": "2"}
    changed = data.quote("openai", "changed")
    assert changed is not None
    assert changed.usd_per_mtok == {"input": "3", "output": "4"}
    assert data.quote("openai", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!") is None
    assert data.quote("openai", "unpriced") is None
    assert data.quote("gemini", "gemini-x") is not None


def test_litellms_map_is_read(read: Callable[[Any], PriceData]) -> None:
    """Per token becomes per million tokens without a floating-point tail."""
    quote = read(LITELLM).quote("anthropic", "claude-haiku-4-5-20251001")
    assert quote is not None
    assert quote.usd_per_mtok == {"input": "1", "output": "5", "cache_read": "0.1"}


@pytest.mark.parametrize(
    "content", ["not JSON", [], {}, "3", [{"id": "x", "models": "many"}], "[" * 5000, '{"\xff":1}']
)
def test_other_files_are_refused(read: Callable[[Any], PriceData], content: Any) -> None:
    """With the file's name."""
    with pytest.raises(CatalogError, match=r"data\.json"):
        read(content)


def test_only_what_differs_is_proposed(compiled: Any, document: str, read: Callable[[Any], PriceData]) -> None:
    """Sets that disagree with each other propose no row."""
    entries, snapshot = check_text(document.encode(), "c")[1], compiled()
    haiku = PriceData("a", {("anthropic", "claude-haiku-4-5-20251001"): {"input": "1.00", "output": "5"}})
    assert list(propose(entries, snapshot, [haiku], NOW)) == []
    (found,) = propose(entries, snapshot, [read(GENAI)], NOW)
    assert found.deployment == "openai/gpt-5-mini"
    assert found.differing == {"cache_read": ("0.025", {"genai-prices": "0.03"})}
    assert found.agreed == {"input": "0.25", "output": "2", "cache_read": "0.03"}
    dearer = PriceData("b", {("anthropic", "claude-haiku-4-5-20251001"): {"input": "2", "output": "5"}})
    (split,) = propose(entries, snapshot, [haiku, dearer], NOW)
    assert split.differing == {"input": ("1", {"a": "1.00", "b": "2"})}
    assert split.agreed is None


def test_the_price_of_some_hours_is_no_difference(compiled: Any, document: str) -> None:
    """Data sets have one price for a day that the catalog divides; any of the day's will do, whole."""
    hours = (
        'off_peak: [{utc: "01:00-04:00", usd_per_mtok: {input: "0.10", output: "1"}}], source: x, checked: 2026-11-20'
    )
    row = f'      - {{from: 2026-11-01, usd_per_mtok: {{input: "0.20", output: "2"}}, {hours}}}\n    deployments:'
    text = document.replace("    deployments:", row, 1)
    entries, snapshot = check_text(text.encode(), "c")[1], compiled(text)
    name = next(iter(snapshot.deployments.values())).upstream_id

    def differing(**rates: str) -> list[str]:
        return [p.deployment for p in propose(entries, snapshot, [PriceData("a", {("openai", name): rates})], NOW)]

    assert differing(input="0.2", output="2") == []
    assert differing(input="0.1", output="1") == []
    assert differing(input="0.1", output="2") == ["openai/gpt-5-mini"]


def test_the_command_prints_rows_and_changes_nothing(tmp_path: Path, document: str) -> None:
    """What it prints can be pasted as it is."""
    file, data = tmp_path / "catalog.yaml", tmp_path / "data.json"
    file.write_text(document)
    data.write_text(json.dumps(GENAI))
    words = ["prices", "propose", "--data", str(data), "--catalog", str(file)]
    result = CliRunner().invoke(app, words, env=KEYS)
    assert result.exit_code == 0, result.output
    assert 'usd_per_mtok: {input: "0.25", output: "2", cache_read: "0.03"}' in result.stdout
    assert file.read_text() == document
    assert CliRunner().invoke(app, words[:2], env={"TIERGATE_PRICE_DATA": ""}).exit_code == 2


PACKAGE = """
import datetime
from decimal import Decimal

class Thing:
    def __init__(self, **fields): self.__dict__.update(fields, _hidden=object())

old, new = (Thing(input_mtok=Decimal(i), output_mtok=Thing(base=Decimal("2.0"), tiers=[])) for i in ("7", "0.20"))
begins = Thing(start_date=datetime.date(2026, 1, 1))
prices = [Thing(constraint=None, prices=old), Thing(constraint=begins, prices=new)]
match = Thing(or_=[Thing(equals="gpt-5-mini"), Thing(starts_with="gpt-5-mini-")])
providers = [Thing(id="openai", models=[Thing(id="mini", match=match, prices=prices)])]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in for the package genai-prices: objects with the same attributes, of its version 0.2.3."""
    folder = tmp_path / "site"
    (folder / "genai_prices").mkdir(parents=True)
    (folder / "genai_prices" / "__init__.py").touch()
    (folder / "genai_prices-9.9.dist-info").mkdir()
    (folder / "genai_prices-9.9.dist-info" / "METADATA").write_text("Name: genai-prices\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(folder))
    yield folder / "genai_prices" / "data.py"
    for name in [name for name in sys.modules if name.startswith("genai_prices")]:
        del sys.modules[name]


def test_the_installed_package_is_read_beside_files(tmp_path: Path, document: str, package: Path) -> None:
    """Only when asked for; what it says otherwise than a file is shown, and two files of a kind are told apart."""
    package.write_text(PACKAGE)
    file, data = tmp_path / "catalog.yaml", tmp_path / "data.json"
    file.write_text(document)
    data.write_text(json.dumps(GENAI))

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["prices", "propose", *words, "--catalog", str(file)], env=KEYS)
        assert result.exit_code == 0, result.output
        return result.stdout

    run("--data", str(data))
    assert "genai_prices" not in sys.modules
    alone = run("--installed")
    assert "input: catalog 0.25; genai-prices 9.9 0.2" in alone
    assert 'usd_per_mtok: {input: "0.2", output: "2"}, source: "genai-prices 9.9, unverified"' in alone
    both = run("--installed", "--data", str(data), "--data", str(data))
    assert f"input: catalog 0.25; genai-prices 9.9 0.2, genai-prices 0.25, genai-prices ({data}) 0.25" in both
    assert "the data sets disagree" in both


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not installed: pip install 'tiergate[prices]'"),
        ("providers = []", "holds no prices"),
        ("", "holds no prices"),
    ],
)
def test_a_package_that_cannot_be_used_is_told_of(
    tmp_path: Path, document: str, package: Path, content: str | None, said: str
) -> None:
    """In a sentence."""
    if content is not None:
        package.write_text(content)
    file = tmp_path / "catalog.yaml"
    file.write_text(document)
    result = CliRunner().invoke(app, ["prices", "propose", "--installed", "--catalog", str(file)], env=KEYS)
    assert result.exit_code == 1
    assert said in result.stderr


def test_prices_of_a_day_and_all_rows_are_shown(tmp_path: Path, document: str) -> None:
    """Rows to come take force by their date alone."""
    row = "      - {from: 2099-01-01, usd_per_mtok: {input: 7, output: 8}, source: x}\n    deployments:"
    file = tmp_path / "catalog.yaml"
    file.write_text(document.replace("    deployments:", row, 1))

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["prices", *words, "--catalog", str(file)])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "input 0.25" in run("show", "gpt-5-mini")
    assert "input 7" in run("show", "openai/gpt-5-mini", "--at", "2099-06-01")
    assert "no price in force" in run("show", "openai/gpt-5-mini", "--at", "2020-01-01")
    listed = run("history", "openai/gpt-5-mini")
    assert "in force" in listed
    assert "to come" in listed
    assert CliRunner().invoke(app, ["prices", "show", "gpt-5-minni", "--catalog", str(file)]).exit_code == 2
