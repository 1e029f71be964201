"""A small good document, and how it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from gateway.catalog.load import compile_text
from gateway.catalog.problems import InvalidCatalog
from gateway.catalog.snapshot import Snapshot

NOW = 1_795_219_200.0  # 2026-11-21
KEYS = {"OPENAI_API_KEY": "sk-test-openai", "ANTHROPIC_API_KEY": "sk-test-anthropic"}

DOCUMENT = """\
providers:
  openai: {adapter: openai, api_key: env:OPENAI_API_KEY, params: {temperature: 0.1, seed: 1}}
  anthropic:
    adapter: anthropic
    api_key: env:ANTHROPIC_API_KEY
    defaults: {text: claude-haiku-4-5}
    param_ranges: {temperature: [0, 1]}
  local: {adapter: openai, base_url: http://127.0.0.1:18000/v1, allow_private: true}
models:
  gpt-5-mini:
    display_name: GPT-5 mini
    quality: quick
    capabilities: [text_input, image_input, text_output, function_calling, streaming]
    context: {input_tokens: 272000, output_tokens: 128000}
    released: 2025-08-07
    params: {temperature: 0.2}
    unsupported_params: {max_tokens: max_completion_tokens}
    prices:
      - from: 2025-08-07
        usd_per_mtok: {input: "0.25", cache_read: "0.025", output: "2.00"}
        source: https://openai.example/pricing
        checked: 2026-11-20
    deployments:
      - {provider: openai, id: gpt-5-mini-2025-08-07, unsupported_params: {top_p: drop}}
      - {provider: local, id: mini, lacks: [image_input], prices: []}
  claude-haiku-4-5:
    quality: quick
    capabilities: [text_input, text_output, function_calling, streaming]
    prices:
      - from: 2025-10-15
        usd_per_mtok: {input: "1.00", output: "5.00"}
        source: https://anthropic.example/pricing
        checked: 2026-11-20
    deployments:
      - {provider: anthropic, id: claude-haiku-4-5-20251001}
tiers:
  fast: {models: [gpt-5-mini, claude-haiku-4-5], policy: [healthy, cheapest], default: claude-haiku-4-5}
  quick: {match: {quality: quick, require: [image_input]}}
aliases: {gpt-3.5-turbo: fast}
presets: {precise: {temperature: 0.0}}
"""

Compile = Callable[..., Snapshot]
Problems = Callable[[str], list[str]]


@pytest.fixture
def document() -> str:
    return DOCUMENT


@pytest.fixture
def compiled() -> Compile:
    """Compiles a text, by default the good document with both keys in the environment."""

    def compile_(text: str = DOCUMENT, env: Mapping[str, str] = KEYS) -> Snapshot:
        return compile_text(text.encode(), "catalog.yaml", env, NOW)

    return compile_


@pytest.fixture
def problems() -> Problems:
    """What is wrong with a text, a line each."""

    def problems_(text: str) -> list[str]:
        with pytest.raises(InvalidCatalog) as caught:
            compile_text(text.encode(), "catalog.yaml", KEYS, NOW)
        return str(caught.value).splitlines()

    return problems_
