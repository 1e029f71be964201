"""Ollama's own API (`/api/chat`, newline-delimited JSON). Its OpenAI-like endpoint is served by the adapter `openai`.

| OpenAI | Ollama |
|---|---|
| `max_tokens`, `max_completion_tokens` | `options.num_predict` |
| `temperature`, `top_p`, `seed`, `stop`, `presence_penalty`, `frequency_penalty` | the same in `options` |
| `response_format` | `format`: `"json"` or the schema |
| `reasoning_effort` | `think`: the effort, `false` for `none` |
| `tool_choice: none` | no tools; a forced call cannot be said and is refused, as are `n` > 1 and `logit_bias` |
| `think`, `keep_alive`, `options`, `logprobs`, `top_logprobs` | carried as they are |

Source: https://docs.ollama.com/api/chat (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Struct

from adapters.address import endpoint_at
from adapters.answers import made_call_id
from adapters.base import NOT_JSON, Adapter, ChatStream, Completion, Listed, Stamp
from adapters.events import EventStream, completion_body, unreadable
from adapters.failures import failure, read_problem
from adapters.framing import JsonLinesSplitter
from adapters.listing import read_list
from adapters.media import media_of
from adapters.openai_chat import Message, arguments_of, functions_of, read_request, refuse, tool_choice_of
from gateway.chat import Chat
from gateway.errors import UpstreamError, bad_request
from gateway.types import Deployment, Endpoint, Provider, Usage

_REFUSED: Mapping[str, str] = {
    "logit_bias": "Ollama has no token biases",
    "audio": "Ollama gives no sound",
    "functions": "use tools",
}
_CARRIED = ("think", "keep_alive", "logprobs", "top_logprobs")
_OPTIONS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")
_FINISH: Mapping[str, str] = {"length": "length"}


class _Function(Struct):
    name: str
    arguments: dict[str, Any] | None = None


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Message(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Reply(Struct):
    """A buffered answer, or one line of a stream."""

    model: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[dict[str, Any]] | None = None
    error: Any = None


class _Models(Struct):
    models: list[dict[str, Any]]


_reply = msgspec.json.Decoder(_Reply)
_models = msgspec.json.Decoder(_Models)
_text = msgspec.json.Decoder(str)


class OllamaAdapter(Adapter):
    """Ollama's native chat API."""

    name: ClassVar[str] = "ollama"
    default_base_url: ClassVar[str | None] = "http://127.0.0.1:11434"
    needs_key: ClassVar[bool] = False

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        return endpoint_at(
            provider, _root(provider), "/api/chat", {"content-type": "application/json", **_key(provider)}
        )

    def request(self, chat: Chat, deployment: Deployment) -> bytes:
        refuse(chat, _REFUSED, "Ollama")
        head = chat.head
        if (head.n or 1) > 1:
            raise bad_request("Ollama answers with one choice only.", "n", "unsupported_parameter")
        request = read_request(chat)
        body: dict[str, Any] = {
            "model": deployment.upstream_id,
            "messages": _messages(request.messages, chat),
            "stream": chat.stream,
        }
        choice = tool_choice_of(chat)
        if choice is not None and choice.mode == "required":
            raise bad_request("Ollama cannot be made to call a tool.", "tool_choice", "unsupported_parameter")
        if choice is None or choice.mode == "auto":
            tools = [{"type": "function", "function": function} for _, function in functions_of(request)]
            body |= {"tools": tools} if tools else {}
        if (form := request.response_format) is not None and form.type != "text":
            schema = form.json_schema.schema if form.json_schema is not None else None
            body["format"] = schema if schema is not None else "json"
        if head.reasoning_effort is not None:
            body["think"] = False if head.reasoning_effort == "none" else head.reasoning_effort
        body |= {name: chat.members[name] for name in _CARRIED if name in chat.members}
        if options := _options(chat):
            body["options"] = options
        return msgspec.json.encode(body)

    def completion(self, body: bytes, chat: Chat, stamp: Stamp) -> Completion:
        try:
            reply = _reply.decode(body)
        except NOT_JSON:
            raise unreadable() from None
        _raise_error(reply)
        if reply.message is None or not reply.done:
            raise unreadable()
        message: dict[str, Any] = {"role": "assistant", "content": reply.message.content or ""}
        if reply.message.thinking:
            message["reasoning_content"] = reply.message.thinking
        calls = [_call(call, at, stamp) for at, call in enumerate(reply.message.tool_calls or ())]
        if calls:
            message["tool_calls"] = calls
        choice: dict[str, Any] = {
            "index": 0,
            "message": message,
            "finish_reason": _finish(reply, called=bool(calls)),
            "logprobs": {"content": reply.logprobs} if reply.logprobs else None,
        }
        usage = _usage(reply)
        return Completion(completion_body(stamp, reply.model or chat.model, [choice], usage), usage, reply.model)

    def stream(self, chat: Chat, stamp: Stamp) -> ChatStream:
        return OllamaStream(chat, stamp, JsonLinesSplitter())

    def usage(self, raw: Mapping[str, Any]) -> Usage:
        return _usage(msgspec.convert(raw, _Reply)) or Usage()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return failure(status, headers, read_problem(body))

    def models_endpoint(self, provider: Provider) -> Endpoint:
        return endpoint_at(provider, _root(provider), "/api/tags", _key(provider), method="GET")

    def models(self, body: bytes) -> Sequence[Listed]:
        rows = read_list(_models, body).models
        return [Listed(row["model"], row) for row in rows if isinstance(row.get("model"), str)]


class OllamaStream(EventStream):
    """A stream of lines, the last of which has `done: true` and the counts."""

    _calls = 0

    def on_event(self, name: str | None, data: bytes) -> None:
        reply = _reply.decode(data)
        if reply.error is not None:
            self.fail(_error(reply))
            return
        self.model = self.model or reply.model
        if (message := reply.message) is not None:
            self.emit_text(message.thinking or "", key="reasoning_content")
            if reply.logprobs:
                self.emit({"content": message.content or ""}, logprobs={"content": reply.logprobs})
            else:
                self.emit_text(message.content or "")
            for call in message.tool_calls or ():
                made = _call(call, self._calls, self.stamp)
                self.emit_call(self._calls, made["id"], call.function.name, made["function"]["arguments"])
                self._calls += 1
        if reply.done:
            self.usage = _usage(reply)
            self.emit({}, finish_reason=_finish(reply, called=self._calls > 0))
            self.finished = True


def _root(provider: Provider) -> str:
    return provider.base_url.rstrip("/").removesuffix("/api")


def _key(provider: Provider) -> dict[str, str]:
    return {} if provider.api_key is None else {"authorization": f"Bearer {provider.api_key.reveal()}"}


def _messages(messages: list[Message], chat: Chat) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    """Tool call id -> the tool's name, by which Ollama knows results."""
    out: list[dict[str, Any]] = []
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        sent: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
        sent |= _content(message, where)
        if message.role == "assistant" and (thinking := _thinking(chat, at)):
            sent["thinking"] = thinking
        calls = []
        for number, call in enumerate(message.tool_calls or ()):
            function, arguments = arguments_of(call, f"{where}.tool_calls[{number}]")
            names[call.id or ""] = function.name
            calls.append({"id": call.id, "function": {"name": function.name, "arguments": arguments}})
        if calls:
            sent["tool_calls"] = calls
        if message.role == "tool":
            sent["tool_call_id"] = message.tool_call_id
            sent["tool_name"] = names.get(message.tool_call_id or "", "")
        out.append(sent)
    return out


def _thinking(chat: Chat, at: int) -> str | None:
    """The reasoning of an earlier answer, which may be given back."""
    told = chat.head.messages[at].reasoning_content
    try:
        return None if told is UNSET else _text.decode(told)
    except NOT_JSON:
        return None


def _content(message: Message, where: str) -> dict[str, Any]:
    """Text, and images as bare base64: Ollama fetches none."""
    if not isinstance(message.content, list):
        return {"content": message.content or ""}
    texts: list[str] = []
    images: list[str] = []
    for at, part in enumerate(message.content):
        media = media_of(part, f"{where}.content[{at}]")
        if media is None:
            texts.append(part.text or part.refusal or "")
        elif media.data and part.type == "image_url":
            images.append(media.data)
        else:
            raise bad_request("Ollama takes text and images given as data URLs only.", f"{where}.content[{at}]")
    return {"content": "\n".join(texts)} | ({"images": images} if images else {})


def _options(chat: Chat) -> dict[str, Any]:
    head = chat.head
    given = chat.member("options")
    options: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    options |= {name: value for name in _OPTIONS if (value := getattr(head, name)) is not None}
    if (limit := head.max_completion_tokens or head.max_tokens) is not None:
        options["num_predict"] = limit
    if head.stop is not None:
        options["stop"] = [head.stop] if isinstance(head.stop, str) else head.stop
    return options


def _call(call: _Call, at: int, stamp: Stamp) -> dict[str, Any]:
    arguments = msgspec.json.encode(call.function.arguments or {}).decode()
    return {
        "id": call.id or made_call_id(stamp.id, at),
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }


def _finish(reply: _Reply, *, called: bool) -> str:
    """Ollama says `stop` for tool calls too; `load` and `unload` answer a request without messages."""
    return _FINISH.get(reply.done_reason or "stop") or ("tool_calls" if called else "stop")


def _usage(reply: _Reply) -> Usage | None:
    """The counts of the last line; `prompt_eval_count` is absent where the prompt was cached whole."""
    if reply.eval_count is None and reply.prompt_eval_count is None:
        return None
    return Usage(input=max(reply.prompt_eval_count or 0, 0), output=max(reply.eval_count or 0, 0))


def _raise_error(reply: _Reply) -> None:
    if reply.error is not None:
        raise _error(reply)


def _error(reply: _Reply) -> UpstreamError:
    return failure(200, {}, read_problem({"error": reply.error}))
