"""Parameters: what catalog, tier and preset add to a request, and what a deployment cannot take.

They inherit provider -> model -> deployment -> tier -> arm of an experiment -> preset -> request: the caller's own word
always wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.chat import Chat
from gateway.errors import bad_request
from gateway.types import Arm, Deployment, Tier

_Key = tuple[str, str | None, str | None, tuple[Arm, ...]]
_CAPS = ("max_tokens", "max_completion_tokens")


class Parameters:
    """The parameters of one catalog version, encoded once for each deployment, tier and preset in use."""

    __slots__ = ("_caps", "_defaults", "_presets")

    def __init__(self, presets: Mapping[str, Mapping[str, Any]]) -> None:
        self._presets = presets
        self._defaults: dict[_Key, dict[str, bytes]] = {}
        self._caps: dict[_Key, int | None] = {}

    def apply(
        self, chat: Chat, deployment: Deployment, tier: Tier | None, preset: str | None, arms: tuple[Arm, ...] = ()
    ) -> tuple[Chat, list[str]]:
        """The request as this deployment shall get it, and a warning for each field that it had to lose.

        Raises:
            CallerError: a value out of the deployment's range, a field that it rejects, or an unknown preset.
        """
        key = deployment.name, tier.name if tier else None, preset, arms
        defaults = self._defaults.get(key)
        if defaults is None:
            defaults = self._defaults[key] = self._encoded(deployment, tier, preset, arms)
        if not defaults and not deployment.unsupported_params and not deployment.param_ranges:
            return chat, []
        warnings: list[str] = []
        changes: dict[str, bytes | None] = {
            name: default
            for name, default in defaults.items()
            if name not in chat.members and not _given_otherwise(name, chat)
        }
        for name, action in deployment.unsupported_params.items():
            raw = changes.get(name) or chat.members.get(name)
            if raw is None or bytes(raw) == b"null":
                continue
            if action == "reject":
                raise bad_request(f"{deployment.model.name} does not take '{name}'.", name, "unsupported_parameter")
            changes[name] = None
            if action == "drop":
                if name in chat.members:
                    warnings.append(f"{name} dropped: {deployment.model.name} does not take it")
            elif action not in chat.members:
                changes[action] = bytes(raw)
        for name, (low, high) in deployment.param_ranges.items():
            sent = chat.members.get(name)
            if sent is None or changes.get(name, b"") is None:
                continue
            value = msgspec.json.decode(sent)
            if isinstance(value, int | float) and not low <= value <= high:
                raise bad_request(
                    f"Invalid value for '{name}': {deployment.model.name} takes {low:g} to {high:g}, got {value:g}.",
                    name,
                )
        return (chat.replace(changes) if changes else chat), warnings

    def output_cap(
        self, deployment: Deployment, tier: Tier | None, preset: str | None, arms: tuple[Arm, ...] = ()
    ) -> int | None:
        """The cap on each choice that `apply` adds to a request without one; None where it adds none.

        Raises:
            CallerError: an unknown preset.
        """
        key = deployment.name, tier.name if tier else None, preset, arms
        if key not in self._caps:
            defaults = self._encoded(deployment, tier, preset, arms)
            caps = [msgspec.json.decode(defaults[name]) for name in _CAPS if name in defaults]
            self._caps[key] = min(caps, default=None)
        return self._caps[key]

    def _encoded(
        self, deployment: Deployment, tier: Tier | None, preset: str | None, arms: tuple[Arm, ...]
    ) -> dict[str, bytes]:
        if preset is not None and preset not in self._presets:
            known = ", ".join(sorted(self._presets)) or "none"
            raise bad_request(f"Unknown preset '{preset}'. Presets of this gateway: {known}.", "gateway.preset")
        merged = {**deployment.params, **(tier.params if tier else {})}
        for arm in arms:
            merged |= arm.params
        merged |= self._presets[preset] if preset else {}
        return {name: msgspec.json.encode(value) for name, value in merged.items()}


def _given_otherwise(name: str, chat: Chat) -> bool:
    """Whether the caller has said the same under the field's other name."""
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}.get(name)
    return other is not None and other in chat.members
