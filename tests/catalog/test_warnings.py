"""What `check` and the log warn of while the document is good."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.catalog.load import compile_text

NOW = 1_795_219_200.0  # 2026-11-21


def test_a_good_document_has_no_warnings(compiled) -> None:
    """With every key at hand."""
    assert compiled().warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "source: https://openai.example/pricing\n        checked: 2026-11-20",
            "source: https://openai.example/pricing\n        checked: 2026-08-22",
            "models.gpt-5-mini.prices[0].checked: was last checked on 2026-08-22, over 90 days ago; check it again",
        ),
        (
            "        source: https://openai.example/pricing\n",
            "",
            "models.gpt-5-mini.prices[0]: names no source, so nobody can check it; add source and checked",
        ),
        (
            "released: 2025-08-07",
            "retires_on: 2026-11-21",
            "models.gpt-5-mini.retires_on: was switched off on 2026-11-21; set status: retired (name a replacement)",
        ),
        (
            "base_url: http://127.0.0.1:18000/v1, allow_private: true",
            "base_url: http://llm.example/v1, api_key: env:OPENAI_API_KEY",
            "providers.local.base_url: sends its key unencrypted; use https://",
        ),
        (
            "from: 2025-10-15",
            "from: 2027-10-15",
            "models.claude-haiku-4-5: has no price in force, so callers with a budget are not routed to it; add prices",
        ),
        (
            "streaming]\n    prices:\n      - from: 2025-10-15",
            "streaming, structured_output]\n    prices:\n      - from: 2025-10-15",
            "tiers.fast: has no fallback for structured_output: only anthropic offers it; add a model that can",
        ),
        (
            "aliases: {gpt-3.5-turbo: fast}",
            "  over: {models: [gpt-5-mini], overrides: [{key: a, models: &m}, {key: a, models: &m}]}".replace(
                "&m", "[gpt-5-mini]"
            ),
            "tiers.over.overrides[1]: is never reached: an earlier one is for key a, too; remove one",
        ),
    ],
)
def test_what_will_go_wrong_is_warned_of(compiled, document: str, old: str, new: str, said: str) -> None:
    """With its line and what to do."""
    (warning,) = compiled(document.replace(old, new, 1)).warnings
    assert warning.startswith("catalog.yaml:")
    assert warning.partition(": ")[2] == said


def test_a_price_checked_90_days_ago_is_not_stale_yet(compiled, document: str) -> None:
    """The ninetieth day still counts."""
    assert compiled(document.replace("checked: 2026-11-20", "checked: 2026-08-23")).warnings == ()


def test_a_tier_that_nobody_can_serve_names_the_reasons(compiled, document: str) -> None:
    """And what becomes of its callers."""
    text = document.replace("models: [gpt-5-mini, claude-haiku-4-5]", "models: [claude-haiku-4-5]")
    (warning,) = compiled(text, {"OPENAI_API_KEY": "x"}).warnings
    reason = "(anthropic: no key: set ANTHROPIC_API_KEY)"
    assert warning.endswith(f"tiers.fast: has no usable deployment now, so every request to it fails {reason}")
    with_stand_in = text.replace("fast: {", "fast: {fallback_models: [gpt-5-mini], ")
    (warning,) = compiled(with_stand_in, {"OPENAI_API_KEY": "x"}).warnings
    assert "so answers come from openai/gpt-5-mini, local/gpt-5-mini (" in warning


def test_a_tier_of_many_unusable_providers_is_warned_of_in_one_short_line(compiled, document: str) -> None:
    """With the first reason and the number of the others."""
    more = "".join(f"  more-{n}: {{adapter: openai, api_key: env:MORE_{n}}}\n" for n in range(5))
    served = "".join(f"      - {{provider: more-{n}, id: x}}\n" for n in range(5))
    text = document.replace("providers:\n", f"providers:\n{more}", 1)
    text = text.replace("      - {provider: anthropic", f"{served}      - {{provider: anthropic", 1)
    text = text.replace("models: [gpt-5-mini, claude-haiku-4-5]", "models: [claude-haiku-4-5]")
    (warning,) = [line for line in compiled(text, {"OPENAI_API_KEY": "x"}).warnings if "tiers.fast" in line]
    assert warning.endswith("(more-0: no key: set MORE_0; 5 more)"), warning


def test_a_key_file_that_everybody_can_read_is_warned_of(document: str, tmp_path: Path) -> None:
    """Its mode and the command that mends it."""
    path = tmp_path / "key"
    path.write_text("sk-x")
    text = document.replace("env:OPENAI_API_KEY", f"file:{path}").encode()
    env = {"ANTHROPIC_API_KEY": "x"}
    path.chmod(0o644)
    (warning,) = compile_text(text, "c.yaml", env, NOW).warnings
    expected = f"c.yaml:2: providers.openai.api_key: {path} can be read by every user (mode 0644); chmod 640 it"
    assert warning == expected
    path.chmod(0o640)
    assert compile_text(text, "c.yaml", env, NOW).warnings == ()


def test_rules_that_lead_to_what_is_out_of_use_are_warned_of(compiled, document: str) -> None:
    """Alias, tier default and provider default."""
    text = document.replace("  claude-haiku-4-5:\n", "  claude-haiku-4-5:\n    status: disabled\n", 1)
    text = text.replace("gpt-3.5-turbo: fast", "old: claude-haiku-4-5")
    places = [warning.split(": ")[1] for warning in compiled(text).warnings]
    assert sorted(places) == ["aliases.old", "providers.anthropic.defaults.text", "tiers.fast.default"]
