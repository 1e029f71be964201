"""The request to an OpenAI-like provider: the caller's own bytes, with only those members changed that a rule names."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET

from adapters.dialect import Dialect
from gateway.chat import Chat
from gateway.types import Deployment

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_PLAIN_OPTIONS = b'{"include_usage":true}'
_QUIET_OPTIONS = b'{"include_usage":true,"include_obfuscation":false}'


def splice(chat: Chat, deployment: Deployment, dialect: Dialect) -> bytes:
    """The upstream body."""
    changes: dict[str, bytes | None] = {"model": _named(deployment.upstream_id)}
    if chat.stream or "stream_options" in chat.members:
        changes["stream_options"] = _stream_options(chat, deployment, dialect)
    if dialect.renames or dialect.drops or dialect.values:
        changes |= _members(chat, dialect)
    if dialect.rewrites_messages and (messages := _messages(chat, dialect)) is not None:
        changes["messages"] = messages
    return chat.encode(changes)


def _members(chat: Chat, dialect: Dialect) -> dict[str, bytes | None]:
    """What the dialect has otherwise."""
    members = chat.members
    changes: dict[str, bytes | None] = dict.fromkeys(name for name in dialect.drops if name in members)
    for name, sent_as in dialect.renames.items():
        if name in members:
            changes[name] = None
            if sent_as not in members:
                changes[sent_as] = bytes(members[name])
    for name, values in dialect.values.items():
        if name in members and (value := values.get(bytes(members[name]))) is not None:
            changes[name] = value
    return changes


@lru_cache(4096)
def _named(upstream_id: str) -> bytes:
    """A model's name as JSON: the same ones are asked for all the time."""
    return _encode(upstream_id)


def _stream_options(chat: Chat, deployment: Deployment, dialect: Dialect) -> bytes | None:
    """Usage is asked for always: it is what the attempt is charged by. Nothing is sent where it would be refused."""
    if not chat.stream or not dialect.stream_usage or "stream_options" in deployment.unsupported_params:
        return None
    # Other servers that speak the dialect may refuse what only its owner knows.
    obfuscates = dialect.obfuscates and deployment.provider.base_url == dialect.base_url
    raw = chat.members.get("stream_options")
    if raw is None or bytes(raw) in (b"null", _PLAIN_OPTIONS):
        return _QUIET_OPTIONS if obfuscates else _PLAIN_OPTIONS
    options: dict[str, Any] = _decode(raw)
    if obfuscates and not options.get("include_obfuscation"):
        options["include_obfuscation"] = False
    return _encode({**options, "include_usage": True})


def _messages(chat: Chat, dialect: Dialect) -> bytes | None:
    """The messages with the dialect's rules applied; None where none of them applies."""
    raw = chat.members["messages"]
    told = chat.head.messages
    # Lists, not any() over a generator, which takes twice as long for each message that is looked at.
    rewrite = dialect.drops_reasoning and bool(
        [m for m in told if m.reasoning_content is not UNSET or m.reasoning_details is not UNSET]
    )
    rewrite = rewrite or (not dialect.developer_role and bool([m for m in told if m.role == "developer"]))
    # A key cannot hide from this search: within a string its quotes would be escaped. One written with escapes is
    # left alone, and the provider refuses it.
    if not rewrite and not (dialect.nine_character_call_ids and b'"tool_call' in bytes(raw)):
        return None
    messages: list[dict[str, Any]] = _decode(raw)
    for message in messages:
        if not dialect.developer_role and message.get("role") == "developer":
            message["role"] = "system"
        if dialect.drops_reasoning:
            message.pop("reasoning_content", None)
            message.pop("reasoning_details", None)
        if dialect.nine_character_call_ids:
            _shorten_ids(message)
    return _encode(messages)


def _shorten_ids(message: dict[str, Any]) -> None:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(call.get("id"), str):
            call["id"] = nine_characters(call["id"])
    if isinstance(message.get("tool_call_id"), str):
        message["tool_call_id"] = nine_characters(message["tool_call_id"])


def nine_characters(call_id: str) -> str:
    """A tool call id in Mistral's form, nine letters or digits: the same for the same id, itself where it fits."""
    if _NINE.fullmatch(call_id):
        return call_id
    number = int.from_bytes(hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    letters = []
    for _ in range(9):
        number, at = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[at])
    return "".join(letters)
