"""From OpenAI's chat request to Gemini's generateContent request.

What becomes of each field that is not simply carried over:

| field | becomes |
|---|---|
| system and developer messages, wherever they stand | `systemInstruction`, in their order |
| `max_completion_tokens`, `max_tokens` | `maxOutputTokens`, which counts thoughts too |
| `n` | `candidateCount` |
| `seed` | its lowest 31 bits, since Gemini's is a 32-bit integer |
| `logprobs`, `top_logprobs` | `responseLogprobs`, `logprobs` |
| `reasoning_effort` | `thinkingConfig`; the deployment's parameter `thinking_mode` says whether by budget or by level |
| `response_format` | `responseMimeType`, `responseJsonSchema` |
| `tool_choice` | `functionCallingConfig`, with `allowedFunctionNames` where it names functions |
| `parallel_tool_calls: false` | an instruction, since there is no such switch |
| `modalities` with image | `responseModalities` |
| `service_tier` | `flex`, `priority`; `default`: `standard`; others left out |
| `safety_settings`, `cached_content`, `thinking_config`, `top_k` | Gemini's own fields, in its own names |
| `REFUSED` | refused, since leaving it out would change the answer |
| every other field | left out: hints (`verbosity`, …), bookkeeping (`store`, `metadata`, `user`, …), unknown ones |

Source: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/openai (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from adapters.gemini_contents import contents_of
from adapters.openai_chat import ONE_CALL, JsonObject, Request, functions_of, read_request, refuse, tool_choice_of
from gateway.chat import Chat
from gateway.errors import bad_request
from gateway.types import Deployment

REFUSED: Mapping[str, str] = {
    "logit_bias": "Gemini has no token biases",
    "audio": "Gemini's chat gives no audio",
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
    "web_search_options": "web search is not offered",
}
_MODALITIES: Mapping[str, str] = {"text": "TEXT", "image": "IMAGE"}
_SERVICE_TIERS: Mapping[str, str] = {"default": "standard", "flex": "flex", "priority": "priority"}
_NATIVE: Mapping[str, str] = {"safety_settings": "safetySettings", "cached_content": "cachedContent"}
_MODES: Mapping[str, str] = {"auto": "AUTO", "none": "NONE", "required": "ANY"}

# The budgets are those of Google's own OpenAI endpoint.
_BUDGETS: Mapping[str, int] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
_LEVELS: Mapping[str, str] = {
    "none": "minimal",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


def generate_request(chat: Chat, deployment: Deployment) -> JsonObject:
    """The body of :generateContent and :streamGenerateContent.

    Raises:
        CallerError: the request asks what Gemini cannot be asked.
    """
    refuse(chat, REFUSED, "Gemini")
    request = read_request(chat)
    by_level = deployment.params.get("thinking_mode") == "level"  # Gemini 3 and later, which also demand signatures
    system, contents = contents_of(request, signed=by_level)
    body: JsonObject = {"contents": contents}
    if request.tools:
        _add_tools(body, chat, request)
        if chat.head.parallel_tool_calls is False:
            system.append({"text": ONE_CALL})
    if system:
        body["systemInstruction"] = {"parts": system}
    if config := _generation_config(chat, request, by_level):
        body["generationConfig"] = config
    if tier := _SERVICE_TIERS.get(chat.head.service_tier or ""):
        body["serviceTier"] = tier
    for name, native in _NATIVE.items():
        if (value := _extra(chat, name)) is not None:
            body[native] = value
    return body


def _extra(chat: Chat, name: str) -> object:
    raw = chat.members.get(name)
    return None if raw is None else msgspec.json.decode(raw)


def _add_tools(body: JsonObject, chat: Chat, request: Request) -> None:
    choice = tool_choice_of(chat)
    declarations: list[JsonObject] = []
    for _, function in functions_of(request):
        if choice is not None and choice.mode == "auto" and choice.names and function.name not in choice.names:
            continue
        declaration: JsonObject = {"name": function.name}
        if function.description:
            declaration["description"] = function.description
        if function.parameters:
            declaration["parametersJsonSchema"] = function.parameters
        declarations.append(declaration)
    body["tools"] = [{"functionDeclarations": declarations}]
    if choice is not None:
        config: JsonObject = {"mode": _MODES[choice.mode]}
        if choice.mode == "required" and choice.names:
            config["allowedFunctionNames"] = list(choice.names)
        body["toolConfig"] = {"functionCallingConfig": config}


def _generation_config(chat: Chat, request: Request, by_level: bool) -> JsonObject:
    head = chat.head
    stop = [head.stop] if isinstance(head.stop, str) else head.stop
    modalities = _modalities(head.modalities or [])
    config: JsonObject = {
        "maxOutputTokens": head.max_completion_tokens or head.max_tokens,
        "temperature": head.temperature,
        "topP": head.top_p,
        "topK": _extra(chat, "top_k"),
        "candidateCount": head.n if head.n != 1 else None,
        "seed": None if head.seed is None else head.seed & 0x7FFFFFFF,
        "presencePenalty": head.presence_penalty,
        "frequencyPenalty": head.frequency_penalty,
        "stopSequences": stop or None,
        "responseModalities": modalities if modalities != ["TEXT"] else None,
        "responseLogprobs": head.logprobs or None,
        "logprobs": head.top_logprobs if head.logprobs and head.top_logprobs else None,
        "thinkingConfig": _extra(chat, "thinking_config") or _thinking(head.reasoning_effort, by_level),
        **_response_format(request),
    }
    return {name: value for name, value in config.items() if value is not None and value != []}


def _modalities(asked: list[str]) -> list[str]:
    unknown = [name for name in asked if name not in _MODALITIES]
    if unknown:
        raise bad_request(f"Gemini's chat does not answer in {unknown[0]}.", "modalities", "unsupported_parameter")
    return [_MODALITIES[name] for name in asked]


def _thinking(effort: str | None, by_level: bool) -> JsonObject | None:
    """Source: https://ai.google.dev/gemini-api/docs/thinking (read 2026-11-21)."""
    if effort is None:
        return None
    if effort not in _BUDGETS:
        raise bad_request(f"reasoning_effort must be one of {', '.join(_BUDGETS)}.", "reasoning_effort")
    shown = {"includeThoughts": True} if effort != "none" else {}
    return {"thinkingLevel": _LEVELS[effort], **shown} if by_level else {"thinkingBudget": _BUDGETS[effort], **shown}


def _response_format(request: Request) -> JsonObject:
    form = request.response_format
    if form is None or form.type == "text":
        return {}
    if form.type == "json_object":
        return {"responseMimeType": "application/json"}
    if form.type != "json_schema" or form.json_schema is None or form.json_schema.schema is None:
        raise bad_request("response_format must be text, json_object or json_schema with a schema.", "response_format")
    return {"responseMimeType": "application/json", "responseJsonSchema": form.json_schema.schema}
