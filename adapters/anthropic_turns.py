"""OpenAI's messages as Anthropic's turns.

Turns alternate; every tool result of a turn stands before its text. Empty text, which Anthropic refuses, is left out.
Source: https://platform.claude.com/docs/en/api/messages,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use (read 2026-11-21).
"""

from __future__ import annotations

import base64
import re
from typing import Literal

from adapters.media import media_of
from adapters.openai_chat import JsonObject, Message, Part, Request, arguments_of, text_only
from gateway.errors import bad_request

REASONING_FORMAT = "anthropic-claude-v1"
"""What marks Claude's reasoning in `reasoning_details`; reasoning of other formats is not given to it."""

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

Block = JsonObject


def conversation(request: Request) -> tuple[list[Block], list[JsonObject]]:
    """The system blocks, and the turns, which alternate.

    Raises:
        CallerError: a message holds what Claude cannot read.
    """
    system: list[Block] = []
    turns: list[JsonObject] = []
    for at, message in enumerate(request.messages):
        where = f"messages[{at}]"
        if message.role in ("system", "developer"):
            system += _text_blocks(message, where)
        elif message.role == "assistant":
            _add_turn(turns, "assistant", _assistant_blocks(message, where))
        elif message.role == "tool":
            _add_turn(turns, "user", [_tool_result(message, where)])
        elif message.role == "user":
            _add_turn(turns, "user", _blocks(message.content, where))
        else:
            raise bad_request("Messages of role 'function' are out of use; send role 'tool'.", f"{where}.role")
    if not turns:  # a conversation of instructions alone: Anthropic wants a user's turn
        if not system:
            raise bad_request("The messages hold no text.", "messages")
        return [], [{"role": "user", "content": system}]
    for turn in turns:
        if turn["role"] == "user":  # tool results must stand first
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    _trim_end(turns[-1])
    return system, turns


def _add_turn(turns: list[JsonObject], role: Literal["user", "assistant"], blocks: list[Block]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _trim_end(turn: JsonObject) -> None:
    """A last turn of the assistant is continued by Claude and must not end in white space."""
    last = turn["content"][-1]
    if turn["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _text_blocks(message: Message, where: str) -> list[Block]:
    text = text_only(message, where)
    return _blocks(message.content if isinstance(message.content, list) else text, where)


def _blocks(content: str | list[Part] | None, where: str) -> list[Block]:
    if not isinstance(content, list):
        return [{"type": "text", "text": content}] if content and not content.isspace() else []
    blocks: list[Block] = []
    for at, part in enumerate(content):
        block = _block(part, f"{where}.content[{at}]")
        if block is not None:
            blocks.append(block if part.cache_control is None else {**block, "cache_control": part.cache_control})
    return blocks


def _block(part: Part, where: str) -> Block | None:
    media = media_of(part, where)
    if media is None:
        text = part.text or part.refusal
        return {"type": "text", "text": text} if text and not text.isspace() else None
    kind = media.mime.partition("/")[0]
    title = {"title": media.name} if media.name else {}
    if media.url:
        source = {"type": "url", "url": media.url}
        if part.type == "file" and kind != "image":
            return {"type": "document", "source": source, **title}
        if part.type in ("image_url", "file"):
            return {"type": "image", "source": source}
    elif media.mime in _IMAGES:
        return {"type": "image", "source": {"type": "base64", "media_type": media.mime, "data": media.data}}
    elif media.mime == "application/pdf":
        source = {"type": "base64", "media_type": media.mime, "data": media.data}
        return {"type": "document", "source": source, **title}
    elif kind == "text" or media.mime == "application/json":
        source = {"type": "text", "media_type": "text/plain", "data": _decoded(media.data, where)}
        return {"type": "document", "source": source, **title}
    raise bad_request(
        f"Claude reads JPEG, PNG, GIF and WebP images, PDF and text files; got {media.mime or part.type}.", where
    )


def _decoded(data: str, where: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:
        raise bad_request("The file's data is not base64 of UTF-8 text.", where) from None


def _assistant_blocks(message: Message, where: str) -> list[Block]:
    blocks: list[Block] = []
    for detail in message.reasoning_details or ():
        if detail.format not in (None, REASONING_FORMAT):
            continue
        if detail.type == "reasoning.text" and detail.signature:
            blocks.append({"type": "thinking", "thinking": detail.text or "", "signature": detail.signature})
        elif detail.type == "reasoning.encrypted" and detail.data:
            blocks.append({"type": "redacted_thinking", "data": detail.data})
    blocks += _text_blocks(message, where)
    for at, call in enumerate(message.tool_calls or ()):
        function, arguments = arguments_of(call, f"{where}.tool_calls[{at}]")
        blocks.append({"type": "tool_use", "id": _tool_id(call.id), "name": function.name, "input": arguments})
    return blocks


def _tool_result(message: Message, where: str) -> Block:
    if not message.tool_call_id:
        raise bad_request("A tool message needs its tool_call_id.", f"{where}.tool_call_id")
    result: Block = {"type": "tool_result", "tool_use_id": _tool_id(message.tool_call_id)}
    blocks = _blocks(message.content, where)
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        result["content"] = blocks[0]["text"]
    elif blocks:
        result["content"] = blocks
    return result


_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")


def _tool_id(call_id: str | None) -> str:
    """A tool call's id in the letters that Anthropic allows; other providers' ids may have more."""
    return _NOT_IN_IDS.sub("_", call_id or "") or "call"
