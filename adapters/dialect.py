"""The OpenAI-like family as a table; `openai.DialectAdapter` reads its rows.

A row says where the provider is and how its requests differ; how answers differ needs no row, since `openai_answer` and
`openai_stream` put right whatever comes. Adding a provider that speaks OpenAI's dialect is adding a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one provider's API differs from OpenAI's. The defaults are OpenAI's own."""

    name: str
    base_url: str | None
    """With the version suffix, as OpenAI's SDKs take it; None where each account has its own."""
    needs_key: bool = True
    auth: Literal["bearer", "api-key"] = "bearer"
    path: str = "/chat/completions"
    models_path: str | None = "/models"
    stream_usage: bool = True
    """Whether `stream_options.include_usage` is understood; where it is not, usage comes unasked."""
    obfuscates: bool = False
    """Whether chunks are padded with random text unless told not to."""
    renames: Mapping[str, str] = field(default_factory=dict)
    drops: frozenset[str] = frozenset()
    """Members that the provider refuses and that change nothing in the answer."""
    values: Mapping[str, Mapping[bytes, bytes]] = field(default_factory=dict)
    """Member -> raw JSON value -> the value sent in its place."""
    drops_reasoning: bool = False
    """Whether the provider refuses what we give of reasoning when it comes back in the history."""
    developer_role: bool = True
    nine_character_call_ids: bool = False
    steerable: bool = False

    @property
    def rewrites_messages(self) -> bool:
        return self.drops_reasoning or not self.developer_role or self.nine_character_call_ids


def _values(**by_value: str) -> Mapping[bytes, bytes]:
    """A value map of JSON strings: `_values(required="any")` sends `"any"` where the caller wrote `"required"`."""
    return {msgspec.json.encode(name): msgspec.json.encode(value) for name, value in by_value.items()}


_BOOKKEEPING = frozenset(
    {"store", "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"}
)
_MAX_TOKENS = {"max_completion_tokens": "max_tokens"}

DIALECTS: tuple[Dialect, ...] = (
    Dialect("openai", "https://api.openai.com/v1", obfuscates=True, drops_reasoning=True),
    # https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (read 2026-11-21)
    Dialect("azure", None, auth="api-key", drops_reasoning=True),
    Dialect("openrouter", "https://openrouter.ai/api/v1"),
    # https://github.com/mistralai/client-python/issues/216 on tool_choice `any` (read 2026-11-21); unknown members are
    # a 422, and usage comes unasked
    Dialect(
        "mistral",
        "https://api.mistral.ai/v1",
        stream_usage=False,
        renames={"seed": "random_seed", **_MAX_TOKENS},
        drops=_BOOKKEEPING,
        values={"tool_choice": _values(required="any")},
        drops_reasoning=True,
        developer_role=False,
        nine_character_call_ids=True,
    ),
    Dialect("xai", "https://api.x.ai/v1"),
    # https://github.com/janhq/jan/issues/8136 on unknown members of messages (read 2026-11-21)
    Dialect(
        "groq",
        "https://api.groq.com/openai/v1",
        drops=frozenset({"metadata", "store", "prompt_cache_key", "safety_identifier"}),
        drops_reasoning=True,
    ),
    # https://github.com/earendil-works/pi/issues/1048 on roles (read 2026-11-21)
    Dialect("deepseek", "https://api.deepseek.com", renames=_MAX_TOKENS, developer_role=False),
    Dialect("fireworks", "https://api.fireworks.ai/inference/v1", renames=_MAX_TOKENS, developer_role=False),
    Dialect("together", "https://api.together.xyz/v1", renames=_MAX_TOKENS, developer_role=False),
    # https://github.com/rikkahub/rikkahub/issues/1137 on unknown members of messages (read 2026-11-21)
    Dialect(
        "cerebras",
        "https://api.cerebras.ai/v1",
        drops=frozenset({"store", "metadata", "prompt_cache_key", "safety_identifier"}),
        drops_reasoning=True,
    ),
    # Ours: deterministic and offline, see adapters/sandbox.py.
    Dialect("sandbox", "http://sandbox.invalid/v1", needs_key=False, steerable=True),
)
