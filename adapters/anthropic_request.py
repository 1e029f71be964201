"""From OpenAI's chat request to Anthropic's Messages request.

What becomes of each field that is not simply carried over:

| field | becomes |
|---|---|
| system and developer messages, wherever they stand | `system`, in their order |
| consecutive messages of one side | one turn; its tool results first |
| `max_completion_tokens`, `max_tokens` | `max_tokens`; without one the model's `output_tokens`, else 4096 |
| `temperature` | clamped to 0..1; left out with thinking, which allows only 1 |
| `reasoning_effort` | see `_thinking`; the deployment's parameter `thinking_mode` says which form its model takes |
| `response_format` json_schema | `output_config.format`, with the schema made strict |
| `response_format` json_object | an instruction, since there is no such mode |
| `parallel_tool_calls: false` | `tool_choice.disable_parallel_tool_use` |
| `user`, `safety_identifier` | `metadata.user_id` |
| `service_tier` | `auto` and `priority`: `auto`; `default`: `standard_only`; others left out |
| `thinking`, `top_k`, `cache_control` | carried as they are: Anthropic's own fields |
| `REFUSED` | refused, since leaving it out would change the answer |
| every other field | left out: hints (`seed`, `verbosity`, …), bookkeeping (`store`, `metadata`, …), unknown ones |

Source: https://platform.claude.com/docs/en/api/messages (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from adapters.anthropic_schema import strict_schema
from adapters.anthropic_turns import conversation
from adapters.openai_chat import JSON_ONLY, JsonObject, Request, functions_of, read_request, refuse, tool_choice_of
from gateway.chat import Chat
from gateway.errors import bad_request
from gateway.types import Deployment

REFUSED: Mapping[str, str] = {
    "logit_bias": "Claude has no token biases",
    "logprobs": "Claude gives no log probabilities",
    "top_logprobs": "Claude gives no log probabilities",
    "frequency_penalty": "Claude has no penalties",
    "presence_penalty": "Claude has no penalties",
    "audio": "Claude gives no audio",
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
    "web_search_options": "web search is not offered",
}
_DEFAULT_MAX_TOKENS = 4096
_SERVICE_TIERS: Mapping[str, str] = {"auto": "auto", "priority": "auto", "default": "standard_only"}
_CHOICES: Mapping[str, str] = {"auto": "auto", "none": "none", "required": "any"}
_NATIVE = ("thinking", "top_k", "cache_control")

ADAPTIVE_MODES = ("adaptive", "always")
"""Values of `thinking_mode` for models that choose themselves how much to think."""

EFFORTS: Mapping[str, str] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
_BUDGETS: Mapping[str, int] = {
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 32768,
    "max": 32768,
}
_SMALLEST_BUDGET = 1024


def messages_request(chat: Chat, deployment: Deployment) -> JsonObject:
    """The body of POST /messages, without `model` and `stream`.

    Raises:
        CallerError: the request asks what Claude cannot be asked.
    """
    _check(chat)
    head, request = chat.head, read_request(chat)
    system, turns = conversation(request)
    max_tokens = head.max_completion_tokens or head.max_tokens
    body: JsonObject = {
        "max_tokens": max_tokens or deployment.model.output_tokens or _DEFAULT_MAX_TOKENS,
        "messages": turns,
    }
    if request.response_format is not None and request.response_format.type == "json_object":
        system.append({"type": "text", "text": JSON_ONLY})
    if system:
        plain = len(system) == 1 and "cache_control" not in system[0]
        body["system"] = system[0]["text"] if plain else system
    if request.tools:
        _add_tools(body, chat, request)
    if (schema := _schema(request)) is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    _add_thinking(body, chat, deployment)
    _add_sampling(body, chat)
    if user := _user(chat):
        body["metadata"] = {"user_id": user}
    if tier := _SERVICE_TIERS.get(head.service_tier or ""):
        body["service_tier"] = tier
    return body


def _check(chat: Chat) -> None:
    refuse(chat, REFUSED, "Claude")
    if (chat.head.n or 1) > 1:
        raise bad_request("Claude gives one choice; send the request n times.", "n", "unsupported_parameter")
    if set(chat.head.modalities or ()) - {"text"}:
        raise bad_request("Claude answers in text only.", "modalities", "unsupported_parameter")


# --------------------------------------------------------------------------------------------------------------- tools


def _add_tools(body: JsonObject, chat: Chat, request: Request) -> None:
    choice = tool_choice_of(chat)
    only = choice.names if choice is not None and (choice.mode == "auto" or len(choice.names) > 1) else ()
    tools: list[JsonObject] = []
    for at, (tool, function) in enumerate(functions_of(request)):
        if only and function.name not in only:
            continue
        schema = {"type": "object", **(function.parameters or {"properties": {}})}
        made: JsonObject = {"name": function.name, "input_schema": schema}
        if function.description:
            made["description"] = function.description
        if function.strict:
            made["strict"] = True
            made["input_schema"] = strict_schema(schema, f"tools[{at}].function.parameters")
        if tool.cache_control is not None:
            made["cache_control"] = tool.cache_control
        tools.append(made)
    body["tools"] = tools
    made_choice: JsonObject | None = None
    if choice is not None:
        made_choice = {"type": _CHOICES[choice.mode]}
        if choice.mode == "required" and len(choice.names) == 1:
            made_choice = {"type": "tool", "name": choice.names[0]}
    if chat.head.parallel_tool_calls is False and (choice is None or choice.mode != "none"):
        made_choice = {**(made_choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if made_choice is not None:
        body["tool_choice"] = made_choice


def _schema(request: Request) -> JsonObject | None:
    """The schema that the answer must keep to, None for none."""
    form = request.response_format
    if form is None or form.type in ("text", "json_object"):
        return None
    if form.type != "json_schema" or form.json_schema is None or form.json_schema.schema is None:
        raise bad_request("response_format must be text, json_object or json_schema with a schema.", "response_format")
    schema = strict_schema(form.json_schema.schema, "response_format.json_schema.schema")
    if form.json_schema.description and "description" not in schema:
        schema["description"] = form.json_schema.description
    return schema


# ------------------------------------------------------------------------------------------------ thinking and sampling


def _add_thinking(body: JsonObject, chat: Chat, deployment: Deployment) -> None:
    """Turns `reasoning_effort` into what the deployment's model takes, by its parameter `thinking_mode`.

    `adaptive`: thinking as the model sees fit, at an effort; `none` switches it off. `always`: the same for models that
    cannot be kept from thinking, where `none` is the least effort. `budget` (the default): thinking with a budget of
    tokens, at most three quarters of `max_tokens`; below Anthropic's smallest budget there is no thinking.

    A forced tool excludes thinking, and so does, with a budget, a tool result whose call came without thinking.
    Source: https://platform.claude.com/docs/en/build-with-claude/extended-thinking,
    https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking (read 2026-11-21).
    """
    for name in _NATIVE:
        if name in chat.members and (given := msgspec.json.decode(chat.members[name])) is not None:
            body[name] = given
    if not isinstance(body.get("thinking", {}), dict):
        raise bad_request("thinking must be an object.", "thinking")
    effort = chat.head.reasoning_effort
    if effort is None or "thinking" in body:
        return
    check_effort(effort)
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    mode = deployment.params.get("thinking_mode")
    if mode in ADAPTIVE_MODES:
        if effort == "none" and mode == "adaptive":
            body["thinking"] = {"type": "disabled"}
            return
        body["output_config"] = {**body.get("output_config", {}), "effort": EFFORTS.get(effort, "low")}
        if not forced:
            body["thinking"] = {"type": "adaptive"}
    elif not forced and not _calls_without_thinking(body["messages"]):
        budget = budget_tokens(effort, body["max_tokens"])
        if budget:
            body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def check_effort(effort: str) -> None:
    """Raises: CallerError where it is no effort that Claude knows."""
    if effort != "none" and effort not in EFFORTS:
        raise bad_request(f"reasoning_effort must be none or one of {', '.join(EFFORTS)}.", "reasoning_effort")


def budget_tokens(effort: str, max_tokens: int) -> int:
    """The thinking budget of an effort within an answer's limit; 0 for `none`, or where the smallest has no room."""
    budget = min(_BUDGETS.get(effort, 0), max_tokens * 3 // 4)
    return budget if budget >= _SMALLEST_BUDGET else 0


def _calls_without_thinking(turns: list[JsonObject]) -> bool:
    if len(turns) < 2 or turns[-1]["content"][0]["type"] != "tool_result":
        return False
    return turns[-2]["content"][0]["type"] not in ("thinking", "redacted_thinking")


def _add_sampling(body: JsonObject, chat: Chat) -> None:
    head = chat.head
    if body.get("thinking", {}).get("type", "disabled") != "disabled":
        body.pop("top_k", None)
        if head.top_p is not None and head.top_p >= 0.95:
            body["top_p"] = head.top_p
    else:
        if head.temperature is not None:
            body["temperature"] = min(head.temperature, 1.0)
        if head.top_p is not None:
            body["top_p"] = head.top_p
    if head.stop:
        body["stop_sequences"] = [head.stop] if isinstance(head.stop, str) else head.stop


def _user(chat: Chat) -> str | None:
    raw = chat.members.get("safety_identifier")
    given = msgspec.json.decode(raw) if raw is not None else None
    user = given if isinstance(given, str) else chat.head.user
    return user[:256] if user else None
