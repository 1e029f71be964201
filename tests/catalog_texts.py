"""Catalog documents that several tests share."""

from __future__ import annotations

PRICED = """\
providers:
  local: {adapter: openai, base_url: https://llm.example/v1}
models:
  m:
    capabilities: [text_input, text_output]
    prices:
      - from: 2026-01-01
        usd_per_mtok: {input: "1.25", output: "0.075"}
        per_image: "0.04"
        per_character: "0.000015"
        above: [{tokens: 200000, usd_per_mtok: {input: "2.5", output: "0.15"}}]
        service_tiers:
          flex:
            usd_per_mtok: {input: "0.5", output: "0.0375"}
            above: [{tokens: 200000, usd_per_mtok: {input: "1", output: "0.075"}}]
        off_peak: [{utc: "16:30-00:30", usd_per_mtok: {input: "0.6", output: "0.03"}}]
        source: https://llm.example/pricing
        checked: 2026-11-20
    deployments: [{provider: local, id: m}]
"""
