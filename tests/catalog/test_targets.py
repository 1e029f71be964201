"""What each name that a caller may send stands for."""

from __future__ import annotations

import pytest

from gateway.catalog.snapshot import Target


def old_model(fields: str) -> str:
    return (
        f"  old:\n    capabilities: [text_input]\n    {fields}\n    deployments: [{{provider: anthropic, id: old-1}}]\n"
    )


def deployments(target: Target) -> list[str]:
    return [deployment.name for deployment in target.tier.deployments]


def test_every_form_of_name_is_known(compiled) -> None:
    """Tier, tier at a provider, model, provider's model, and alias; nothing else."""
    assert set(compiled().targets) == {
        "fast",
        "fast@openai",
        "fast@local",
        "fast@anthropic",
        "quick",
        "quick@openai",
        "quick@local",
        "gpt-5-mini",
        "openai/gpt-5-mini",
        "local/gpt-5-mini",
        "claude-haiku-4-5",
        "anthropic/claude-haiku-4-5",
        "gpt-3.5-turbo",
    }


def test_a_tier_at_a_provider_prefers_it(compiled) -> None:
    """It is the same tier; only the preference differs."""
    targets = compiled().targets
    assert targets["fast@anthropic"].tier is targets["fast"].tier
    assert targets["fast@anthropic"].prefer_provider == "anthropic"
    assert targets["fast"].prefer_provider is None


def test_a_model_means_all_its_deployments_and_a_deployment_itself(compiled) -> None:
    """Both are ordered by the default policy."""
    targets = compiled().targets
    assert deployments(targets["gpt-5-mini"]) == ["openai/gpt-5-mini", "local/gpt-5-mini"]
    assert deployments(targets["local/gpt-5-mini"]) == ["local/gpt-5-mini"]
    assert [policy.name for policy in targets["gpt-5-mini"].tier.policy] == ["healthy", "cheapest"]


def test_deployments_with_suffixes_have_names_of_their_own(compiled, document: str) -> None:
    """The name without a suffix means all of them."""
    text = document.replace(
        "- {provider: local, id: mini, lacks: [image_input], prices: []}",
        "- {provider: local, id: a, suffix: eu}\n      - {provider: local, id: b, suffix: us}",
    )
    targets = compiled(text).targets
    assert deployments(targets["local/gpt-5-mini#us"]) == ["local/gpt-5-mini#us"]
    assert deployments(targets["local/gpt-5-mini"]) == ["local/gpt-5-mini#eu", "local/gpt-5-mini#us"]


def test_an_alias_is_what_it_stands_for(compiled) -> None:
    """Old hard-coded names lead to the very same target."""
    targets = compiled().targets
    assert targets["gpt-3.5-turbo"] is targets["fast"]


@pytest.mark.parametrize("name", ["old", "anthropic/old"])
def test_a_retired_model_is_answered_by_its_replacement(compiled, document: str, name: str) -> None:
    """Under each of its names, with the reason and its dates."""
    fields = "status: retired\n    deprecated_on: 2026-01-31\n    retires_on: 2026-06-30\n    replacement: gpt-5-mini"
    target = compiled(document.replace("tiers:\n", old_model(fields) + "tiers:\n")).targets[name]
    assert (target.kind, target.name, target.substituted) == ("model", "gpt-5-mini", "old")
    assert target.note == "old is retired (deprecated 2026-01-31, retired 2026-06-30); served by gpt-5-mini"
    assert target.model is not None
    assert target.model.name == "gpt-5-mini"


def test_replacements_are_followed_to_one_that_is_enabled(compiled, document: str) -> None:
    """Over models that are themselves outdated."""
    newer = old_model("status: retired\n    replacement: claude-haiku-4-5").replace("old", "newer")
    text = document.replace("tiers:\n", old_model("status: deprecated\n    replacement: newer") + newer + "tiers:\n")
    assert compiled(text).targets["old"].name == "claude-haiku-4-5"


def test_without_a_replacement_the_providers_default_answers(compiled, document: str) -> None:
    """The default of the provider that served the model."""
    text = document.replace("tiers:\n", old_model("status: deprecated") + "tiers:\n")
    target = compiled(text).targets["old"]
    assert (target.name, target.note) == ("claude-haiku-4-5", "old is deprecated; served by claude-haiku-4-5")


def test_without_any_substitute_a_deprecated_model_answers_itself(compiled, document: str) -> None:
    """There is nothing better to serve."""
    text = document.replace("tiers:\n", old_model("status: deprecated").replace("anthropic", "local") + "tiers:\n")
    target = compiled(text).targets["old"]
    assert (target.name, target.substituted) == ("old", None)


def test_a_disabled_model_carries_its_reason(compiled, document: str) -> None:
    """For the refusal that its callers get."""
    text = document.replace("    display_name: GPT-5 mini\n", "    status: disabled\n    reason: under review\n")
    target = compiled(text).targets["gpt-5-mini"]
    assert target.note == "under review"
    assert target.model is not None
    assert target.model.status == "disabled"


def test_the_nearest_names_are_found(compiled) -> None:
    """For the error message about a name that is unknown."""
    assert compiled().nearest("claude-haiku-45")[0] == "claude-haiku-4-5"
