"""What the sandbox says: choices made from the request, counted in tokens, written as a whole or as a stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from adapters.events import DONE, openai_usage
from adapters.sandbox_schema import instance
from gateway.chat import Chat
from gateway.types import Usage

DIRECTIVES = re.compile(r"sandbox\(([^()]{0,200})\)")
"""Steering within a message's text; not part of what is said."""

# The sandbox answers on the gateway's own loop, to any key: whatever a request holds, its answer must not take long.
_READ_CHARS = 100_000
"""What is read of a message: its end."""
_MOST_TOKENS = 16_384
"""Of all choices of an answer together, with the alternatives shown of each."""
_MOST_CALLS = 32

_TOKEN = re.compile(r"\s*\S{1,6}|\s+")
_EFFORT_TOKENS: Mapping[str, int] = {"none": 0, "minimal": 4, "low": 12, "medium": 24, "high": 48, "xhigh": 96}
_MEDIA_TOKENS: Mapping[str, int] = {"image_url": 85, "input_audio": 50, "file": 120, "video_url": 200}
_PHRASE = "This answer was made by the sandbox, offline and always the same. "
_THOUGHT = "The question is plain, so the answer can be short. "


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice before it is written down, as tokens, so that both ways of answering cut alike."""

    tokens: list[str]
    thought: list[str]
    calls: list[dict[str, Any]]
    finish: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What all choices of an answer have in common."""

    calls: list[tuple[str, str]]
    """Name and arguments of each tool to call."""
    text: str
    """What is said where no tool is called."""
    numbered: bool
    """Whether choices beyond the first say so."""


def plot_of(chat: Chat, steer: Mapping[str, Any]) -> Plot:
    """What the answer will hold; `steer` holds the directives.

    Raises:
        CallerError: a JSON Schema of the request is none.
    """
    calls = _calls(chat)
    text, numbered = ("", False) if calls else _text(chat, steer)
    return Plot(calls, text[:_READ_CHARS], numbered)


def make_choice(chat: Chat, plot: Plot, at: int, made: str) -> Choice:
    """The choice `at`, cut where the token limit is. `made` makes its call ids unique."""
    head = chat.head
    most = _MOST_TOKENS // (head.n or 1) // (1 + (head.top_logprobs or 0))
    limit = min(head.max_completion_tokens or head.max_tokens or most, most)
    thought = _tokens(_THOUGHT * 20)[: _reasoning_tokens(chat)]
    if len(thought) >= limit:
        return Choice([], thought[:limit], [], "length")
    limit -= len(thought)
    if plot.calls:
        calls: list[dict[str, Any]] = [
            {
                "id": f"call_{made}{at}{number}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for number, (name, arguments) in enumerate(plot.calls)
        ]
        forced = isinstance(head.tool_choice, dict) and head.tool_choice.get("type") != "allowed_tools"
        cut = _cut_calls(calls, limit)
        return Choice([], thought, calls, "length" if cut else "stop" if forced else "tool_calls")
    text = f"{plot.text} (choice {at + 1})" if at and plot.numbered else plot.text
    for stop in [head.stop] if isinstance(head.stop, str) else head.stop or []:
        text = text.split(stop, 1)[0] if stop else text
    tokens = _tokens(text)
    return Choice(tokens[:limit], thought, [], "length" if len(tokens) > limit else "stop")


def _text(chat: Chat, steer: Mapping[str, Any]) -> tuple[str, bool]:
    """What is said, and whether further choices may say their number behind it."""
    said = _last_text(chat)
    form = chat.member("response_format") or {}
    if form.get("type") == "json_schema":
        schema = _object(form, "json_schema").get("schema")
        return msgspec.json.encode(instance(schema, said[:40])).decode(), False
    if form.get("type") == "json_object":
        return msgspec.json.encode({"answer": said}).decode(), False
    if "tokens" in steer:
        wanted = int(min(steer["tokens"], _MOST_TOKENS))
        return "".join(_tokens(_PHRASE * (wanted // 8 + 1))[:wanted]), False
    role = chat.head.messages[-1].role
    text = f"The tool said: {said}" if role in ("tool", "function") else f"You said: {said}"
    return (text + "\n\n" + _PHRASE * 3 if chat.model == "sandbox-large" else text), True


def _calls(chat: Chat) -> list[tuple[str, str]]:
    head = chat.head
    functions = [tool["function"] for tool in chat.member("tools") or () if isinstance(tool.get("function"), dict)]
    choice = head.tool_choice
    if not functions or choice == "none":
        return []
    said = last_user_text(chat)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = _object(choice, "allowed_tools")
        tools = allowed.get("tools")
        names = [
            _object(tool, "function").get("name")
            for tool in (tools if isinstance(tools, list) else ())
            if isinstance(tool, dict)
        ]
        functions = [function for function in functions if function.get("name") in names]
        choice = allowed.get("mode")
    if isinstance(choice, dict):
        wanted = _object(choice, "function").get("name")
        functions = [function for function in functions if function.get("name") == wanted]
    elif choice != "required" and (head.messages[-1].role != "user" or not re.search(r"(?i)\bcall\b", said)):
        return []
    if head.parallel_tool_calls is False or not re.search(r"(?i)\bcall all\b", said):
        functions = functions[:1]
    return [(function.get("name"), _arguments(function, said)) for function in functions[:_MOST_CALLS]]


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that must be an object; an empty one where it is something else."""
    member = value.get(name)
    return member if isinstance(member, dict) else {}


def _arguments(function: Mapping[str, Any], said: str) -> str:
    value = instance(function.get("parameters") or {"type": "object"}, said[:40])
    return msgspec.json.encode(value if isinstance(value, dict) else {}).decode()


def _cut_calls(calls: list[dict[str, Any]], limit: int) -> bool:
    """Cuts the arguments where the token limit is; tells whether it had to."""
    cut = False
    for call in calls:
        tokens = _tokens(call["function"]["arguments"])
        call["function"]["arguments"] = "".join(tokens[: max(limit, 0)])
        cut |= len(tokens) > limit
        limit -= len(tokens)
    return cut


# ------------------------------------------------------------------------------------------------------------- reading


def last_user_text(chat: Chat) -> str:
    """The text of the last message that a user wrote, as much as is read of it."""
    texts = (_text_of(message.content) for message in reversed(chat.head.messages) if message.role == "user")
    return next(texts, "")[-_READ_CHARS:]


def _last_text(chat: Chat) -> str:
    """What the last message says, with its media named."""
    content = msgspec.json.decode(chat.head.messages[-1].content)
    text = DIRECTIVES.sub("", _text_of(chat.head.messages[-1].content)[-_READ_CHARS:]).strip()
    kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    media = [str(kind).removesuffix("_url").removeprefix("input_") for kind in kinds if kind in _MEDIA_TOKENS]
    return f"{text} [{', '.join(media)}]" if media else text


def _text_of(content: bytes | msgspec.Raw) -> str:
    value = msgspec.json.decode(content)
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        return "\n".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else ""


# ------------------------------------------------------------------------------------------------------------ counting


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _token_count(text: str) -> int:
    """How many tokens a text has; beyond what is read, guessed from its length."""
    return len(_tokens(text[:_READ_CHARS])) + max(0, len(text) - _READ_CHARS) // 4


def _reasoning_tokens(chat: Chat) -> int:
    if chat.model != "sandbox-reasoning":
        return 0
    return _EFFORT_TOKENS.get(chat.head.reasoning_effort or "medium", 24)


def usage_of(chat: Chat, choices: list[Choice], steer: Mapping[str, Any]) -> Usage:
    """The tokens of request and choices; the same however the answer is written."""
    prompt, audio = 3, 0
    for message in chat.head.messages:
        prompt += 4 + _token_count(_text_of(message.content))
        value = msgspec.json.decode(message.content)
        for part in value if isinstance(value, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            audio += _MEDIA_TOKENS["input_audio"] if kind == "input_audio" else 0
            prompt += _MEDIA_TOKENS.get(str(kind), 0) if kind != "input_audio" else 0
    prompt += len(bytes(chat.members.get("tools", b""))) // 4
    cached = min(int(steer.get("cached_tokens", 0)), prompt)
    reasoning = sum(len(choice.thought) for choice in choices)
    spoken = sum(
        len(choice.tokens) + sum(len(_tokens(call["function"]["arguments"])) + 4 for call in choice.calls)
        for choice in choices
    )
    return Usage(
        input=prompt - cached, cache_read=cached, output=spoken + reasoning, reasoning=reasoning, audio_in=audio
    )


def _logprobs(tokens: list[str], chat: Chat) -> dict[str, Any] | None:
    if not chat.head.logprobs:
        return None
    count = chat.head.top_logprobs or 0

    def likely(token: str, rank: int) -> dict[str, Any]:
        return {"token": token, "logprob": -0.125 * (rank + 1), "bytes": list(token.encode())}

    rows = [
        {**likely(token, 0), "top_logprobs": [likely(token + "'" * rank, rank) for rank in range(count)]}
        for token in tokens
    ]
    return {"content": rows, "refusal": None}


# ------------------------------------------------------------------------------------------------------------- writing


def message_choice(choice: Choice, index: int, chat: Chat) -> dict[str, Any]:
    """The choice of a buffered answer."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if choice.calls else "".join(choice.tokens),
        "refusal": None,
    }
    if choice.thought:
        message["reasoning_content"] = "".join(choice.thought)
    if choice.calls:
        message["tool_calls"] = choice.calls
    logprobs = _logprobs(choice.tokens, chat)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish}


def stream_events(head: Mapping[str, Any], chat: Chat, choices: list[Choice], usage: Usage) -> list[bytes]:
    """The events of the stream: the choices one after the other, then usage where asked for."""
    deltas = chain.from_iterable(_deltas(choice, index, chat) for index, choice in enumerate(choices))
    chunk = {**head, "object": "chat.completion.chunk"}
    events = [{**chunk, "choices": [delta]} for delta in deltas]
    if chat.include_usage:
        events.append({**chunk, "choices": [], "usage": openai_usage(usage)})
    return [*(b"data: %b\n\n" % msgspec.json.encode(event) for event in events), DONE]


def _deltas(choice: Choice, index: int, chat: Chat) -> list[dict[str, Any]]:
    opening = {"role": "assistant", "content": None if choice.calls else ""}
    deltas: list[tuple[dict[str, Any], list[str]]] = [(opening, [])]
    deltas += [({"reasoning_content": token}, []) for token in choice.thought]
    deltas += [({"content": token}, [token]) for token in choice.tokens]
    for at, call in enumerate(choice.calls):
        function = call["function"]
        begun = {"index": at, "id": call["id"], "type": "function"}
        deltas.append(({"tool_calls": [{**begun, "function": {"name": function["name"], "arguments": ""}}]}, []))
        deltas += [
            ({"tool_calls": [{"index": at, "function": {"arguments": token}}]}, [])
            for token in _tokens(function["arguments"])
        ]
    rows: list[dict[str, Any]] = [
        {"index": index, "delta": delta, "logprobs": _logprobs(tokens, chat) if tokens else None, "finish_reason": None}
        for delta, tokens in deltas
    ]
    return [*rows, {"index": index, "delta": {}, "logprobs": None, "finish_reason": choice.finish}]
