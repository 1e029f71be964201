"""The form of the document that other tools rely on."""

from __future__ import annotations

from gateway.types import Capability

CONTRACT = """\
# yaml-language-server: $schema=./catalog.schema.json
providers:
  openai:    {adapter: openai, api_key: env:OPENAI_API_KEY}
  local:     {adapter: openai, base_url: http://127.0.0.1:18000/v1, allow_private: true}
  anthropic: {adapter: anthropic, api_key: file:/run/secrets/anthropic, defaults: {text: claude-haiku-4-5}}
models:
  gpt-5-mini: {capabilities: [text_input, text_output], deployments: [{provider: openai, id: gpt-5-mini}]}
  claude-haiku-4-5:
    display_name: Claude Haiku 4.5
    status: enabled
    quality: smart
    capabilities: [text_input, image_input, text_output, function_calling, parallel_tool_calls, structured_output,
                   streaming, prompt_caching, extended_thinking]
    context: {input_tokens: 200000, output_tokens: 64000}
    guidance: {recommended_for: [a], best_practices: [b], tips: [c], pitfalls: [d], url: https://docs.example/haiku}
    prices:
      - {from: 2025-10-15, usd_per_mtok: {input: "1.00", cache_read: "0.10", cache_write_5m: "1.25",
         cache_write_1h: "2.00", output: "5.00"}, source: https://pricing.example, checked: 2026-11-20}
    deployments:
      - {provider: anthropic, id: claude-haiku-4-5-20251001}
      - {provider: local, id: claude-haiku-4-5-20251001}
tiers:
  fast:  {models: [gpt-5-mini, claude-haiku-4-5], policy: [healthy, cheapest], default: claude-haiku-4-5,
          params: {temperature: 0.3}}
  smart: {match: {quality: smart, require: [function_calling]}, on_caller_left: cancel,
          policy: [healthy, {balanced: {cost: 0.5, latency: 0.3, reliability: 0.2}}]}
aliases: {gpt-4o: smart}
presets: {precise: {temperature: 0.0}, creative: {temperature: 1.0}}
"""


def test_the_documented_form_is_taken(compiled) -> None:
    """Every key of it arrives where it belongs; an absent key file only takes its provider out."""
    snapshot = compiled(CONTRACT, {"OPENAI_API_KEY": "k"})
    model = snapshot.models["claude-haiku-4-5"]
    assert (model.display_name, model.status, model.input_tokens) == ("Claude Haiku 4.5", "enabled", 200_000)
    assert model.capabilities & Capability.LARGE_CONTEXT.bit
    assert set(model.guidance) == {"recommended_for", "best_practices", "tips", "pitfalls", "url"}
    rates = snapshot.deployments["local/claude-haiku-4-5"].prices[0].rates
    assert (rates.input, rates.cache_read, rates.cache_write_5m) == (1_000_000, 100_000, 1_250_000)
    assert (rates.cache_write_1h, rates.output) == (2_000_000, 5_000_000)
    assert snapshot.providers["anthropic"].unavailable == (
        "no key: /run/secrets/anthropic cannot be read (No such file or directory)"
    )
    assert snapshot.providers["anthropic"].defaults == {"text": "claude-haiku-4-5"}
    assert snapshot.tiers["fast"].params == {"temperature": 0.3}
    assert snapshot.tiers["smart"].on_caller_left.action == "cancel"
    assert snapshot.targets["gpt-4o"] is snapshot.targets["smart"]
    assert snapshot.presets == {"precise": {"temperature": 0.0}, "creative": {"temperature": 1.0}}
