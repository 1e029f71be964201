"""Model lists kept by hand, for where our key may not ask for one: Vertex AI with an API key, hosts other than the
public ones, and keys without the right to list.

The ids are those of the shipped catalog's deployments, whose own sources stand there; compare with the providers' pages
before relying on them: https://cloud.google.com/vertex-ai/generative-ai/docs/models and
https://docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html.
"""

from __future__ import annotations

from collections.abc import Mapping

from adapters.base import Listed

AS_OF = "2026-11-21"
"""When the lists were last compared with the providers' pages."""

CURATED: Mapping[str, tuple[Listed, ...]] = {
    "vertex": (
        Listed("gemini-4-argon"),
        Listed("gemini-3.8-flash"),
        Listed("gemini-2.5-pro"),
        Listed("gemini-2.5-flash"),
    ),
    "vertex_claude": (
        Listed("claude-opus-5-5"),
        Listed("claude-opus-5"),
        Listed("claude-sonnet-5-5"),
        Listed("claude-sonnet-5"),
        Listed("claude-haiku-5-5"),
        Listed("claude-haiku-4-5@20251001"),
    ),
    "bedrock": (
        Listed("global.anthropic.claude-opus-5-5"),
        Listed("global.anthropic.claude-sonnet-5-5"),
        Listed("global.anthropic.claude-haiku-5-5"),
        Listed("global.anthropic.claude-haiku-4-5-20251001-v1:0"),
        Listed("global.amazon.nova-2-lite-v1:0"),
        Listed("amazon.nova-premier-v1:0"),
        Listed("amazon.nova-pro-v1:0"),
        Listed("amazon.nova-lite-v1:0"),
        Listed("amazon.nova-micro-v1:0"),
        Listed("openai.gpt-oss-120b-1:0"),
    ),
}
"""By adapter."""
