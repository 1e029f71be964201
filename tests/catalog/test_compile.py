"""What a document becomes: secrets, endpoints, integers, masks, inherited parameters, tiers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from catalog_texts import PRICED

from gateway.catalog.prices import rates_text
from gateway.types import Capability, OnCallerLeft, Secret, Timeouts, capabilities_of


def test_prices_become_integers_of_pico_usd(compiled) -> None:
    """$0.25 per million tokens is 250,000 pico-USD per token; what is not priced apart stays None."""
    (price,) = compiled().deployments["openai/gpt-5-mini"].prices
    assert (price.rates.input, price.rates.cache_read, price.rates.output) == (250_000, 25_000, 2_000_000)
    assert price.rates.cache_write_5m is None
    assert price.from_at == 1_754_524_800.0
    assert price.checked == "2026-11-20"


def test_a_row_keeps_its_cliffs_service_tiers_and_windows(compiled) -> None:
    """Every part of a price row arrives in the unit that the ledger charges by."""
    (price,) = compiled(PRICED).deployments["local/m"].prices
    assert price.rates.image == 40_000_000_000
    assert price.rates.character == 15_000_000
    assert [(cliff.above_tokens, cliff.rates.input) for cliff in price.cliffs] == [(200_000, 2_500_000)]
    flex = price.service_tiers["flex"]
    assert (flex.rates.input, flex.rates.output, flex.cliffs[0].rates.output) == (500_000, 37_500, 75_000)
    (window,) = price.off_peak
    assert (window.start_minute, window.end_minute, window.rates.input) == (16 * 60 + 30, 30, 600_000)


def test_what_tokens_cost_is_told_as_it_was_written(compiled) -> None:
    """Every rate by its name in the document, without zeros that say nothing; what is not priced apart is left out."""
    (price,) = compiled().deployments["openai/gpt-5-mini"].prices
    assert rates_text(price.rates) == {"input": "0.25", "cache_read": "0.025", "output": "2"}
    rates = replace(price.rates, output=10_000_000, audio_in=0, audio_out=1, image=5)
    assert rates_text(rates) == {
        "input": "0.25",
        "cache_read": "0.025",
        "output": "10",
        "audio_in": "0",
        "audio_out": "0.000001",
    }


def test_a_price_id_changes_with_the_figures_only(compiled, document: str) -> None:
    """The id names model, day and figures, so that no two tariffs share one; comments on a row do not count."""
    ids = {
        text: compiled(text).deployments["openai/gpt-5-mini"].prices[0].price_id
        for text in (
            document,
            document.replace("checked: 2026-11-20", "checked: 2026-11-21").replace('"0.25"', "0.250"),
            document.replace('"0.25"', '"0.26"'),
        )
    }
    first, same, other = ids.values()
    assert first == same != other
    assert first.startswith("gpt-5-mini@2025-08-07.")


def test_a_deployment_with_an_empty_price_list_has_no_price(compiled) -> None:
    """Its own list replaces the model's, even an empty one: unknown is not the model's price."""
    assert compiled().deployments["local/gpt-5-mini"].price_at(1_795_219_200.0) is None


def test_capabilities_are_the_models_less_what_the_deployment_lacks(compiled) -> None:
    """Context sizes add their own capabilities."""
    snapshot = compiled()
    full = snapshot.deployments["openai/gpt-5-mini"].capabilities
    assert Capability.LARGE_CONTEXT in capabilities_of(full)
    assert Capability.EXTRA_LARGE_CONTEXT not in capabilities_of(full)
    assert snapshot.deployments["local/gpt-5-mini"].capabilities == full & ~Capability.IMAGE_INPUT.bit


def test_parameters_are_inherited_and_the_nearer_one_wins(compiled) -> None:
    """Provider, then model, then deployment; what one does not name stays."""
    deployment = compiled().deployments["openai/gpt-5-mini"]
    assert deployment.params == {"temperature": 0.2, "seed": 1}
    assert deployment.unsupported_params == {"max_tokens": "max_completion_tokens", "top_p": "drop"}
    assert compiled().deployments["anthropic/claude-haiku-4-5"].param_ranges == {"temperature": (0.0, 1.0)}


def test_a_key_from_the_environment_reaches_the_endpoint(compiled) -> None:
    """Each deployment's endpoint is made once, credentials included, and no repr shows them."""
    snapshot = compiled()
    provider, deployment = snapshot.providers["openai"], snapshot.deployments["openai/gpt-5-mini"]
    assert provider.api_key == Secret("sk-test-openai")
    assert deployment.endpoint is not None
    assert ("authorization", "Bearer sk-test-openai") in deployment.endpoint.headers
    assert "sk-test" not in repr(provider) + repr(deployment)


def test_a_provider_without_its_key_is_left_out_with_the_reason(compiled) -> None:
    """Nothing else is affected, and the reason says what to set."""
    snapshot = compiled(env={"ANTHROPIC_API_KEY": "x"})
    assert snapshot.providers["openai"].unavailable == "no key: set OPENAI_API_KEY"
    assert snapshot.deployments["openai/gpt-5-mini"].endpoint is None
    assert snapshot.providers["anthropic"].unavailable is None


def test_a_server_of_ones_own_needs_no_key(compiled) -> None:
    """A base URL without a key is usable."""
    provider = compiled(env={}).providers["local"]
    assert provider.unavailable is None
    assert provider.api_key is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"sk-from-file\n", None),
        (b"", "no key: write it to {path}"),
        (
            b"two words",
            "no key: write it to {path} as one line of printable ASCII; it holds blanks or other characters",
        ),
        (b"\xff\xfe", "no key: {path} cannot be read (not text)"),
    ],
)
def test_a_key_may_stand_in_a_file(compiled, document: str, tmp_path: Path, content: bytes, reason: str | None) -> None:
    """The file's one line is the key; anything else makes the provider unavailable, and is never shown."""
    path = tmp_path / "key"
    path.write_bytes(content)
    provider = compiled(document.replace("env:OPENAI_API_KEY", f"file:{path}")).providers["openai"]
    assert provider.unavailable == (reason.format(path=path) if reason else None)
    assert provider.api_key == (Secret("sk-from-file") if reason is None else None)


def test_a_missing_key_file_says_so(compiled, document: str, tmp_path: Path) -> None:
    """With the operating system's reason."""
    path = tmp_path / "absent"
    provider = compiled(document.replace("env:OPENAI_API_KEY", f"file:{path}")).providers["openai"]
    assert provider.unavailable == f"no key: {path} cannot be read (No such file or directory)"


def test_an_address_may_come_from_the_environment(compiled, document: str) -> None:
    """Unset, it makes the provider unavailable; set to what is not allowed, it is a problem of the document."""
    text = document.replace("http://127.0.0.1:18000/v1, allow_private: true", "env:LOCAL_URL")
    env = {"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "x"}
    assert compiled(text, env).providers["local"].unavailable == "no address: set LOCAL_URL"
    assert compiled(text, {**env, "LOCAL_URL": "https://llm.example/v1"}).providers["local"].base_url == (
        "https://llm.example/v1"
    )
    with pytest.raises(
        Exception, match=r"catalog.yaml:8: providers.local.base_url: the address in env:LOCAL_URL names"
    ):
        compiled(text, {**env, "LOCAL_URL": "http://169.254.169.254/"})


def test_an_option_may_come_from_the_environment(compiled, document: str) -> None:
    """What differs from one installation to the next need not stand in the document."""
    text = document.replace("allow_private: true", "allow_private: true, options: {project: 'env:PROJECT', plain: x}")
    provider = compiled(text, {"PROJECT": "p-1"}).providers["local"]
    assert (provider.options, provider.unavailable) == ({"project": "p-1", "plain": "x"}, None)
    assert compiled(text, {}).providers["local"].unavailable == "no project: set PROJECT"


def test_a_tier_lists_every_deployment_of_its_models_in_order(compiled) -> None:
    """Models by name keep the order of the list; unusable deployments are kept, for explanations."""
    tier = compiled(env={}).tiers["fast"]
    assert [d.name for d in tier.deployments] == ["openai/gpt-5-mini", "local/gpt-5-mini", "anthropic/claude-haiku-4-5"]
    assert [policy.name for policy in tier.policy] == ["healthy", "cheapest"]
    assert tier.default == "claude-haiku-4-5"


def test_a_tier_may_match_models_by_what_they_are(compiled, document: str) -> None:
    """By quality and capability; models that are not enabled do not match."""
    assert {d.model.name for d in compiled().tiers["quick"].deployments} == {"gpt-5-mini"}
    disabled = document.replace("    display_name: GPT-5 mini\n", "    status: disabled\n")
    assert compiled(disabled).tiers["quick"].deployments == ()


def test_a_tiers_rest_is_compiled(compiled, document: str) -> None:
    """Time-outs keep defaults where nothing is said; stand-ins and overrides lead to deployments."""
    tier = compiled(
        document.replace(
            "fast: {models: [gpt-5-mini, claude-haiku-4-5],",
            "fast: {models: [gpt-5-mini], fallback_models: [claude-haiku-4-5], timeouts: {first_byte_s: 5},\n"
            "    overrides: [{tag: 'team=a', models: [claude-haiku-4-5]}], on_caller_left: {seconds: 3},",
        ).replace("default: claude-haiku-4-5}", "params: {top_p: 0.5}}")
    ).tiers["fast"]
    assert tier.timeouts == Timeouts(first_byte_s=5)
    assert [d.name for d in tier.fallback] == ["anthropic/claude-haiku-4-5"]
    assert [(o.label, o.deployments[0].name) for o in tier.overrides] == [("tag:team=a", "anthropic/claude-haiku-4-5")]
    assert tier.on_caller_left == OnCallerLeft("drain", 3.0, 4096)
    assert tier.params == {"top_p": 0.5}


def test_the_version_is_the_documents_hash(compiled, document: str) -> None:
    """The same bytes give the same version anywhere; any change another one."""
    assert compiled().version == compiled(env={}).version
    assert len(compiled().version) == 12
    assert compiled(document + "# a comment\n").version != compiled().version


def test_rate_limits_of_a_provider_hold_for_each_of_its_deployments(compiled, document: str) -> None:
    """Unless a deployment has its own."""
    text = document.replace("local: {adapter: openai,", "local: {adapter: openai, rpm: 60, tpm: 1000, concurrency: 4,")
    snapshot = compiled(text.replace("id: mini,", "id: mini, tpm: 500,"))
    deployment = snapshot.deployments["local/gpt-5-mini"]
    assert (deployment.rpm, deployment.tpm, deployment.concurrency) == (60, 500, None)
    assert snapshot.providers["local"].concurrency == 4
