"""The description of every field of the document, from the schema: what docs/catalog.md is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.catalog.validate import json_schema

_TITLES = {
    "CatalogEntry": "The document",
    "ProviderEntry": "Providers",
    "DefaultsEntry": "Provider defaults",
    "TimeoutsEntry": "Timeouts",
    "Params": "Parameters and presets",
    "ModelEntry": "Models",
    "ContextEntry": "Context",
    "GuidanceEntry": "Guidance",
    "DeploymentEntry": "Deployments",
    "PriceEntry": "Prices",
    "UsdPerMtokEntry": "Rates",
    "CliffEntry": "Long prompts",
    "ServiceTierEntry": "Service tiers",
    "OffPeakEntry": "Off-peak windows",
    "TierEntry": "Tiers",
    "MatchEntry": "Matching models",
    "OverrideEntry": "Overrides",
    "CallerLeftEntry": "When the caller leaves",
    "Capability": "Capabilities",
}


def render_reference() -> str:
    """Markdown: one section for each part of the document, one table row for each field."""
    schema = json_schema()
    parts = {"CatalogEntry": schema, **schema["$defs"]}
    return "\n".join(line for name, title in _TITLES.items() for line in _section(title, parts[name]))


def _section(title: str, part: dict[str, Any]) -> Iterator[str]:
    yield f"### {title}\n"
    if "enum" in part:
        yield ", ".join(f"`{value}`" for value in part["enum"]) + "\n"
        return
    yield str(part["description"]).partition("\n")[0] + "\n"
    yield "| field | value | meaning |\n|---|---|---|"
    required = part.get("required", [])
    for name, field in part["properties"].items():
        must = " (required)" if name in required else ""
        yield f"| `{name}`{must} | {_kind(field)} | {field['description']} |".replace("\n", " ")
    yield ""


def _kind(field: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{_TITLES[name].lower()}](#{_TITLES[name].lower().replace(' ', '-')})"
    if "anyOf" in field:
        kinds = [_kind(choice) for choice in field["anyOf"] if choice.get("type") != "null"]
        return "decimal" if kinds == ["number", "text"] else " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        items = field.get("items") or {"type": "number"}
        return f"list of {_kind(items)}"
    if field.get("type") == "object":
        below = field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), None)
        return f"mapping of names to {_kind(below)}" if isinstance(below, dict) else "mapping"
    if field.get("format") == "date":
        return "date"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}.get(
        str(field.get("type")), "any value"
    )
