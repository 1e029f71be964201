"""The provider APIs that can be spoken. Adding one: its module, and its row here (or a row of the dialect table)."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.anthropic import AnthropicAdapter
from adapters.base import Adapter
from adapters.bedrock import BedrockAdapter
from adapters.dialect import DIALECTS
from adapters.gemini import GeminiAdapter
from adapters.ollama import OllamaAdapter
from adapters.openai import AzureAdapter, DialectAdapter
from adapters.vertex import VertexAdapter, VertexClaudeAdapter

ADAPTERS: Mapping[str, Adapter] = {
    **{row.name: DialectAdapter(row) for row in DIALECTS},
    "azure": AzureAdapter(next(row for row in DIALECTS if row.name == "azure")),
    "anthropic": AnthropicAdapter(),
    "bedrock": BedrockAdapter(),
    "gemini": GeminiAdapter(),
    "ollama": OllamaAdapter(),
    "vertex": VertexAdapter(),
    "vertex_claude": VertexClaudeAdapter(),
}
