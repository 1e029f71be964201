"""What a provider's name for a model gives away: its sort, what it is for, and a name for the catalog. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from gateway.catalog.pending import Sort

Category = Literal["text", "speech", "other"]

# `-2025-08-07`, `-20251001`, `@20251001`, `-0613` (month, day), `-2411` (year, month); Bedrock's `-v1:0` may follow
_DATED = re.compile(
    r"(?P<base>.+?)[-@](?:20\d\d-?[01]\d-?[0-3]\d|(?:0[1-9]|1[0-2])[0-3]\d|2[3-9](?:0[1-9]|1[0-2]))(?P<rest>-v\d+:\d+)?"
)
_ALIAS = re.compile(r"(?P<base>.+?)[-:]latest")
_FINE_TUNE = re.compile(r"ft:(?P<base>[^:]+):.*")
_SPEECH = re.compile(r"(?i)(^|[-_/.])(tts|whisper|transcribe|speech|voice|voxtral-mini-transcribe|playai)([-_/.\d]|$)")
_OTHER = re.compile(
    r"(?i)(embed|moderation|dall-e|(^|[-_/])image|imagen|(^|[-_/])veo|sora|rerank|ocr|realtime|guard|computer-use|"
    r"diffusion|flux|(^|[-_/])bge|lyria|(^|[-_/])aqa$|davinci-002|babbage-002|-instruct-0914)"
)
_PLACE = re.compile(r"^(?:(?:global|apac|[a-z]{2}(?:-gov)?)\.)?(?:[a-z]{4,}|ai21|zai)\.(?=[a-z])")
"""Bedrock's region and vendor: `global.anthropic.`, `us.meta.`, `amazon.`."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:+-]+")
_TYPES: Mapping[str, Category] = {
    "chat": "text",
    "language": "text",
    "code": "text",
    "audio": "speech",
    "transcribe": "speech",
    "embedding": "other",
    "image": "other",
    "video": "other",
    "moderation": "other",
    "rerank": "other",
}


def sort_of(upstream_id: str) -> tuple[Sort, str]:
    """The sort of a model and the id that it is a snapshot, fine-tune or alias of (empty for a model)."""
    if found := _FINE_TUNE.fullmatch(upstream_id):
        return "fine_tune", found["base"]
    if found := _ALIAS.fullmatch(upstream_id):
        return "alias", found["base"]
    if found := _DATED.fullmatch(upstream_id):
        return "snapshot", found["base"]
    return "model", ""


def category_of(upstream_id: str, metadata: Mapping[str, Any]) -> Category:
    """What a model is for: by the list's own word where it has one, else by its name."""
    kind = metadata.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        return _TYPES[kind]
    if _SPEECH.search(upstream_id):
        return "speech"
    return "other" if _OTHER.search(upstream_id) else "text"


def name_of(upstream_id: str) -> str:
    """A name for the catalog: of allowed characters, without what aggregators and Bedrock put before it."""
    bare = upstream_id if upstream_id.startswith("ft:") else upstream_id.rpartition("/")[2]
    name = _NOT_IN_NAMES.sub("-", _PLACE.sub("", bare))
    return name.lstrip("-._:+")[:128] or "model"
