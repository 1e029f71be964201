"""From OpenAI's chat request to Amazon Bedrock's Converse request.

What becomes of each field that is not simply carried over:

| field | becomes |
|---|---|
| system and developer messages, wherever they stand | `system`, in their order |
| consecutive messages of one side | one turn; its tool results first |
| images, documents, videos | their bytes; addresses are refused, since Bedrock reads none but S3's |
| `cache_control` on parts and tools | a `cachePoint` after them |
| `temperature` | clamped to 0..1; left out with thinking |
| `parallel_tool_calls: false` | an instruction, since there is no such switch |
| `tool_choice: none` | no tools, unless the conversation holds calls already |
| `reasoning_effort` | as for Claude, by the deployment's parameter `thinking_mode`; without that left out |
| `response_format` json_schema | `outputConfig.textFormat`; json_object an instruction |
| `service_tier` | `priority`, `default`, `flex`; others left out |
| `REFUSED` | refused, since leaving it out would change the answer |
| every other field | left out: hints (`seed`, `verbosity`, …), bookkeeping (`store`, `metadata`, …), unknown ones |

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (read 2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from adapters.anthropic_request import ADAPTIVE_MODES, EFFORTS, budget_tokens, check_effort
from adapters.media import Media, media_of
from adapters.openai_chat import (
    JSON_ONLY,
    ONE_CALL,
    JsonObject,
    Message,
    Part,
    Request,
    arguments_of,
    functions_of,
    read_request,
    refuse,
    text_only,
    tool_choice_of,
)
from gateway.chat import Chat
from gateway.errors import bad_request
from gateway.types import Deployment

REASONING_FORMAT = "anthropic-claude-v1"
"""Bedrock's signed reasoning is Claude's."""

REFUSED: Mapping[str, str] = {
    "logit_bias": "Converse has no token biases",
    "logprobs": "Converse gives no log probabilities",
    "top_logprobs": "Converse gives no log probabilities",
    "frequency_penalty": "Converse has no penalties",
    "presence_penalty": "Converse has no penalties",
    "audio": "Converse gives no audio",
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
    "web_search_options": "web search is not offered",
}
_SERVICE_TIERS = frozenset({"priority", "default", "flex"})
_IMAGES = frozenset({"png", "jpeg", "gif", "webp"})
_VIDEOS = frozenset({"mp4", "mov", "mkv", "webm", "mpeg"})
_DOCUMENTS: Mapping[str, str] = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 ()\[\]-]+")
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")
_DEFAULT_MAX_TOKENS = 4096


def converse_request(chat: Chat, deployment: Deployment) -> JsonObject:
    """The body of /converse and /converse-stream.

    Raises:
        CallerError: the request asks what Converse cannot be asked.
    """
    refuse(chat, REFUSED, "Bedrock")
    head, request = chat.head, read_request(chat)
    if (head.n or 1) > 1:
        raise bad_request("Bedrock gives one choice; send the request n times.", "n", "unsupported_parameter")
    if set(head.modalities or ()) - {"text"}:
        raise bad_request("Bedrock answers in text only.", "modalities", "unsupported_parameter")
    system, turns = _conversation(request)
    if request.response_format is not None and request.response_format.type == "json_object":
        system.append({"text": JSON_ONLY})
    body: JsonObject = {"messages": turns}
    if tools := _tool_config(chat, request, turns):
        body["toolConfig"] = tools
        if chat.head.parallel_tool_calls is False:
            system.append({"text": ONE_CALL})
    if system:
        body["system"] = system
    if form := _text_format(request):
        body["outputConfig"] = {"textFormat": form}
    if head.service_tier in _SERVICE_TIERS:
        body["serviceTier"] = {"type": head.service_tier}
    _add_thinking(body, chat, deployment)
    thinking = body.get("additionalModelRequestFields", {}).get("thinking", {"type": "disabled"})
    config = _inference_config(chat, thinks=thinking["type"] != "disabled")
    if config:
        body["inferenceConfig"] = {**body.get("inferenceConfig", {}), **config}
    return body


def _inference_config(chat: Chat, *, thinks: bool) -> JsonObject:
    head = chat.head
    config: JsonObject = {
        "maxTokens": head.max_completion_tokens or head.max_tokens,
        "temperature": None if head.temperature is None or thinks else min(head.temperature, 1.0),
        "topP": None if thinks else head.top_p,
        "stopSequences": [head.stop] if isinstance(head.stop, str) else head.stop or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _add_thinking(body: JsonObject, chat: Chat, deployment: Deployment) -> None:
    """Claude's thinking, as at Anthropic: not beside a forced tool, and a budget within the answer's limit.

    Source: https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html
    (read 2026-11-21).
    """
    effort, mode = chat.head.reasoning_effort, deployment.params.get("thinking_mode")
    if effort is None or mode is None:
        return
    check_effort(effort)
    forced = not {"any", "tool"}.isdisjoint(body.get("toolConfig", {}).get("toolChoice", {}))
    if mode in ADAPTIVE_MODES:
        if effort == "none" and mode == "adaptive":
            body["additionalModelRequestFields"] = {"thinking": {"type": "disabled"}}
            return
        body["outputConfig"] = {**body.get("outputConfig", {}), "effort": EFFORTS.get(effort, "low")}
        if not forced:
            body["additionalModelRequestFields"] = {"thinking": {"type": "adaptive"}}
    elif mode == "budget" and not forced:
        asked = chat.head.max_completion_tokens or chat.head.max_tokens
        limit = asked or deployment.model.output_tokens or _DEFAULT_MAX_TOKENS
        budget = budget_tokens(effort, limit)
        if budget:
            body["inferenceConfig"] = {"maxTokens": limit}
            body["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _text_format(request: Request) -> JsonObject | None:
    form = request.response_format
    if form is None or form.type in ("text", "json_object"):
        return None
    if form.type != "json_schema" or form.json_schema is None or form.json_schema.schema is None:
        raise bad_request("response_format must be text, json_object or json_schema with a schema.", "response_format")
    schema: JsonObject = {"schema": msgspec.json.encode(form.json_schema.schema).decode()}
    if form.json_schema.name:
        schema["name"] = form.json_schema.name
    if form.json_schema.description:
        schema["description"] = form.json_schema.description
    return {"type": "json_schema", "structure": {"jsonSchema": schema}}


def _tool_config(chat: Chat, request: Request, turns: list[JsonObject]) -> JsonObject | None:
    choice = tool_choice_of(chat)
    called = any("toolUse" in block for turn in turns for block in turn["content"])
    if not request.tools or (choice is not None and choice.mode == "none" and not called):
        return None
    only = choice.names if choice is not None and (choice.mode == "auto" or len(choice.names) > 1) else ()
    tools: list[JsonObject] = []
    for tool, function in functions_of(request):
        if only and function.name not in only:
            continue
        schema = {"type": "object", **(function.parameters or {"properties": {}})}
        spec: JsonObject = {"name": function.name, "inputSchema": {"json": schema}}
        if function.description:
            spec["description"] = function.description
        if function.strict:
            spec["strict"] = True
        tools.append({"toolSpec": spec})
        tools += _cache_point(tool.cache_control)
    config: JsonObject = {"tools": tools}
    if choice is not None and choice.mode == "required":
        config["toolChoice"] = {"tool": {"name": choice.names[0]}} if len(choice.names) == 1 else {"any": {}}
    elif choice is not None and choice.mode == "auto":
        config["toolChoice"] = {"auto": {}}
    return config


# ------------------------------------------------------------------------------------------------------------ messages


def _conversation(request: Request) -> tuple[list[JsonObject], list[JsonObject]]:
    system: list[JsonObject] = []
    turns: list[JsonObject] = []
    for at, message in enumerate(request.messages):
        where = f"messages[{at}]"
        if message.role in ("system", "developer"):
            text_only(message, where)
            system += _blocks(message, where)
            continue
        if message.role == "function":
            raise bad_request("Messages of role 'function' are out of use; send role 'tool'.", f"{where}.role")
        role = "assistant" if message.role == "assistant" else "user"
        if role == "assistant":
            blocks = _assistant_blocks(message, where)
        elif message.role == "tool":
            blocks = [_tool_result(message, where)]
        else:
            blocks = _blocks(message, where)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns:
        if not system:
            raise bad_request("The messages hold no text.", "messages")
        return [], [{"role": "user", "content": system}]
    for turn in turns:
        if turn["role"] == "user":  # tool results must stand first
            turn["content"].sort(key=lambda block: "toolResult" not in block)
    return system, turns


def _blocks(message: Message, where: str) -> list[JsonObject]:
    content = message.content
    if not isinstance(content, list):
        return [{"text": content}] if content and not content.isspace() else []
    blocks: list[JsonObject] = []
    for at, part in enumerate(content):
        block = _block(part, f"{where}.content[{at}]")
        if block is not None:
            blocks += [block, *_cache_point(part.cache_control)]
    return blocks


def _cache_point(mark: JsonObject | None) -> list[JsonObject]:
    if mark is None:
        return []
    ttl = {"ttl": mark["ttl"]} if mark.get("ttl") in ("5m", "1h") else {}
    return [{"cachePoint": {"type": "default", **ttl}}]


def _block(part: Part, where: str) -> JsonObject | None:
    media = media_of(part, where)
    if media is None:
        text = part.text or part.refusal
        return {"text": text} if text and not text.isspace() else None
    kind, _, form = media.mime.partition("/")
    source = {"bytes": media.data}
    if media.url:
        raise bad_request("Bedrock reads no web addresses; send the data itself.", where)
    if kind == "image" and form in _IMAGES:
        return {"image": {"format": form, "source": source}}
    if kind == "video" and form in _VIDEOS:
        return {"video": {"format": form, "source": source}}
    if media.mime in _DOCUMENTS:
        return {"document": {"format": _DOCUMENTS[media.mime], "name": _name(media), "source": source}}
    raise bad_request(f"Bedrock reads no media of type '{media.mime}'.", where)


def _name(media: Media) -> str:
    """A document's name in the letters that Bedrock allows."""
    return " ".join(_NOT_IN_NAMES.sub(" ", media.name or "").split()) or "document"


def _assistant_blocks(message: Message, where: str) -> list[JsonObject]:
    blocks: list[JsonObject] = []
    for detail in message.reasoning_details or ():
        if detail.format not in (None, REASONING_FORMAT):
            continue
        if detail.type == "reasoning.text" and detail.signature:
            text = {"text": detail.text or "", "signature": detail.signature}
            blocks.append({"reasoningContent": {"reasoningText": text}})
        elif detail.type == "reasoning.encrypted" and detail.data:
            blocks.append({"reasoningContent": {"redactedContent": detail.data}})
    text_only(message, where)
    blocks += _blocks(message, where)
    for at, call in enumerate(message.tool_calls or ()):
        function, arguments = arguments_of(call, f"{where}.tool_calls[{at}]")
        use = {"toolUseId": _tool_id(call.id), "name": function.name, "input": arguments}
        blocks.append({"toolUse": use})
    return blocks


def _tool_result(message: Message, where: str) -> JsonObject:
    if not message.tool_call_id:
        raise bad_request("A tool message needs its tool_call_id.", f"{where}.tool_call_id")
    content = _blocks(message, where) or [{"text": "(empty)"}]
    return {"toolResult": {"toolUseId": _tool_id(message.tool_call_id), "content": content}}


def _tool_id(call_id: str | None) -> str:
    return _NOT_IN_IDS.sub("_", call_id or "")[:64] or "call"
