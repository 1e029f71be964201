"""The chat request as a translator reads it: messages, tools and media of OpenAI's API, typed and checked.

Beyond OpenAI's own fields, three extensions are read, so that what a provider gave can be given back to it next turn:
`reasoning_details` on assistant messages (signatures, redacted and encrypted reasoning), `extra_content` on tool calls
(`{"google": {"thought_signature": "…"}}`, as Google's OpenAI endpoint has it), and `cache_control` on parts and tools.

Source: OpenAI API description, CreateChatCompletionRequest (read 2026-11-21);
https://openrouter.ai/docs/use-cases/reasoning-tokens for `reasoning_details` (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Struct

from adapters.base import NOT_JSON
from gateway.chat import Chat
from gateway.errors import bad_request

JsonObject = dict[str, Any]

# Instructions for what a provider's API has no switch for.
JSON_ONLY = "Answer with one valid JSON object and nothing else: no other text, no Markdown fence."
ONE_CALL = "Call at most one function in each turn."


class Link(Struct):
    url: str


class Audio(Struct):
    data: str
    format: str


class File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(Struct):
    """One content part; `type` says which of the members counts."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Link | str | None = None
    video_url: Link | str | None = None
    input_audio: Audio | None = None
    file: File | None = None
    cache_control: JsonObject | None = None


class CalledFunction(Struct):
    name: str
    arguments: str | None = None


class Call(Struct):
    function: CalledFunction | None = None
    id: str | None = None
    extra_content: JsonObject | None = None


class Detail(Struct):
    """One piece of reasoning to give back: `reasoning.text`, `reasoning.summary` or `reasoning.encrypted`."""

    type: str
    format: str | None = None
    id: str | None = None
    text: str | None = None
    signature: str | None = None
    data: str | None = None


class Message(Struct):
    role: str
    content: str | list[Part] | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_details: list[Detail] | None = None


class Function(Struct):
    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Struct):
    type: str = "function"
    function: Function | None = None
    cache_control: JsonObject | None = None


class JsonSchema(Struct):
    name: str | None = None
    description: str | None = None
    schema: JsonObject | None = None
    strict: bool | None = None


class ResponseFormat(Struct):
    type: str
    json_schema: JsonSchema | None = None


class Request(Struct):
    """The members of the body that need translating; scalars are in `Chat.head`."""

    messages: list[Message]
    tools: list[Tool] | None = None
    response_format: ResponseFormat | None = None


_request = msgspec.json.Decoder(Request)


def read_request(chat: Chat) -> Request:
    """The typed request.

    Raises:
        CallerError: a member has the wrong shape, named by its path.
    """
    try:
        return _request.decode(chat.encode({}))
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `")
        param = path.rstrip("`").removeprefix("$.").replace("[...]", "") or None
        raise bad_request(f"Invalid value for '{param}': {text}." if param else f"{text}.", param) from None


def refuse(chat: Chat, reasons: Mapping[str, str], who: str) -> None:
    """Refuses a request that sets one of these fields to anything but nothing, zero, false or empty.

    Raises:
        CallerError: naming the field and why `who` cannot take it.
    """
    for name in reasons.keys() & chat.members.keys():
        if bytes(chat.members[name]) not in _NEUTRAL:
            raise bad_request(f"{who} cannot take '{name}': {reasons[name]}.", name, "unsupported_parameter")


_NEUTRAL = frozenset({b"null", b"0", b"0.0", b"false", b"{}", b"[]", b'""'})


def text_only(message: Message, where: str) -> str:
    """All text of a message that may hold nothing but text and refusals.

    Raises:
        CallerError: the message holds a part of another kind.
    """
    if not isinstance(message.content, list):
        return message.content or message.refusal or ""
    texts: list[str] = []
    for at, part in enumerate(message.content):
        if part.type not in ("text", "refusal"):
            raise bad_request(
                f"A {message.role} message takes text only, got a part of type '{part.type}'.", f"{where}.content[{at}]"
            )
        texts.append(part.text or part.refusal or "")
    return "".join(texts)


def arguments_of(call: Call, where: str) -> tuple[CalledFunction, JsonObject]:
    """A past tool call's function and its arguments, decoded.

    Raises:
        CallerError: it calls no function, or the arguments are not a JSON object.
    """
    function = call.function
    if function is None:
        raise bad_request("Only calls of type 'function' can be translated for this model.", where)
    try:
        value = msgspec.json.decode(function.arguments or "{}")
    except NOT_JSON:
        value = None
    if not isinstance(value, dict):
        raise bad_request("Tool call arguments must be a JSON object.", f"{where}.function.arguments")
    return function, value


def functions_of(request: Request) -> list[tuple[Tool, Function]]:
    """The function of each tool.

    Raises:
        CallerError: a tool is not a function.
    """
    pairs: list[tuple[Tool, Function]] = []
    for at, tool in enumerate(request.tools or ()):
        if tool.type != "function" or tool.function is None:
            raise bad_request(f"This model takes tools of type 'function' only, got '{tool.type}'.", f"tools[{at}]")
        pairs.append((tool, tool.function))
    return pairs


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`tool_choice` in one form: how, and where it is limited to some functions, to which."""

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] = ()


_MODES: Mapping[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
}


def tool_choice_of(chat: Chat) -> ToolChoice | None:
    """What the request says of choosing tools, None where nothing.

    Raises:
        CallerError: it is none of OpenAI's forms.
    """
    choice = chat.head.tool_choice
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _MODES:
        return _MODES[choice]
    if isinstance(choice, dict):
        name = _function_name(choice)
        if name is not None:
            return ToolChoice("required", (name,))
        allowed = choice.get("allowed_tools")
        if isinstance(allowed, dict) and allowed.get("mode") in ("auto", "required"):
            names = tuple(name for tool in allowed.get("tools") or () if (name := _function_name(tool)) is not None)
            return ToolChoice(allowed["mode"], names)
    raise bad_request(
        "tool_choice must be 'auto', 'none', 'required', a function or a list of allowed functions.", "tool_choice"
    )


def _function_name(value: object) -> str | None:
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
