"""Putting right what OpenAI-like providers do differently in messages, deltas, tool calls and finish reasons.

Everything here changes decoded JSON in place and tells whether it had to, so that what was right can go on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import Kind, UpstreamError

_decode = msgspec.json.Decoder().decode

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
SERVICE_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
"""The values that OpenAI's clients know; others are reported to the gateway only."""

_FINISH_WORDS: Mapping[str, str] = {
    "model_length": "length",  # Mistral
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "refusal": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}
_BROKEN_FINISH = frozenset({"error", "insufficient_system_resource"})  # OpenRouter; DeepSeek
_AFTER_FINISH = ("content", "reasoning_content", "refusal", "tool_calls", "function_call")


def repair_text(message: dict[str, Any]) -> bool:
    """Puts `content` and reasoning of a message or delta into their OpenAI form.

    Mistral gives content as a list of parts, thinking among them; Workers AI an object in JSON mode; Groq and
    OpenRouter name the reasoning `reasoning`.
    """
    changed = False
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        text, thought = _of_parts(content) if isinstance(content, list) else (_json(content), "")
        message["content"] = text
        if thought:
            message["reasoning_content"] = (message.get("reasoning_content") or "") + thought
        changed = True
    if "reasoning" in message:
        reasoning = message.pop("reasoning")
        if isinstance(reasoning, str) and reasoning and not message.get("reasoning_content"):
            message["reasoning_content"] = reasoning
        changed = True
    return changed


def _of_parts(parts: list[Any]) -> tuple[str, str]:
    text: list[str] = []
    thought: list[str] = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, Mapping) and part.get("type") == "thinking":
            inner = part.get("thinking")
            thought.append(_of_parts(inner)[0] if isinstance(inner, list) else str(inner or ""))
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            text.append(part["text"])
    return "".join(text), "".join(thought)


_SURROGATES = re.compile(
    rb"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def decode(data: bytes) -> Any:
    """JSON decoded. Half of a surrogate pair, as some servers cut an emoji between two deltas, is read as U+FFFD.

    Raises:
        msgspec.DecodeError: it is not JSON.
    """
    try:
        return _decode(data)
    except msgspec.DecodeError:
        whole = _SURROGATES.sub(lambda hit: hit[1] or b"\\ufffd", data) if b"\\u" in data else data
        if whole == data:
            raise
        return _decode(whole)
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def repair_logprobs(choice: dict[str, Any]) -> bool:
    """Gives each token of `logprobs.content` the members that OpenAI's clients demand."""
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    changed = False
    for token in tokens if isinstance(tokens, list) else ():
        if isinstance(token, dict) and not isinstance(token.get("top_logprobs"), list):
            token["top_logprobs"] = []
            changed = True
    return changed


def finish_reason(value: object, *, called: bool, forced: bool) -> str | None:
    """OpenAI's word for a finish reason; None where the choice goes on.

    `called`: the choice has tool calls. `forced`: the caller made it call one, where OpenAI itself says `stop`.

    Raises:
        UpstreamError: the provider broke off.
    """
    if not isinstance(value, str) or not value:
        return None
    if value not in FINISH_REASONS:
        word = value.lower()
        if word in _BROKEN_FINISH:
            raise UpstreamError(Kind.BROKEN, "The provider broke off its answer.", billed=True)
        value = word if word in FINISH_REASONS else _FINISH_WORDS.get(word, "stop")
    if value == "stop" and called and not forced:
        return "tool_calls"
    return "stop" if value == "tool_calls" and not called else value


def repair_calls(calls: list[Any], answer_id: str) -> bool:
    """Puts the tool calls of a whole message right: ids, types, arguments as text, no `index`."""
    changed = False
    taken: set[str] = set()
    for at, call in enumerate(calls):
        _check_call(call)
        if "index" in call:
            del call["index"]
            changed = True
        call_id = call.get("id")
        if not isinstance(call_id, str) or not call_id or call_id in taken:
            call_id = call["id"] = made_call_id(answer_id, at)
            changed = True
        taken.add(call_id)
        changed |= repair_function(call)
    return changed


def _check_call(call: object) -> None:
    """Refuses what is no tool call, so that nothing after has to doubt it."""
    if not isinstance(call, dict) or not isinstance(call.get("function") or {}, dict):
        raise UpstreamError(Kind.BROKEN, "The provider sent a tool call that cannot be read.", billed=True)


def repair_function(call: dict[str, Any]) -> bool:
    """Puts type and arguments of a whole tool call, or of its first delta, right."""
    function = call.get("function")
    if not isinstance(function, dict):
        return False  # a custom tool, or a delta of nothing
    changed = False
    if call.get("type") != "function":
        call["type"] = "function"
        changed = True
    arguments = function.get("arguments")
    if arguments == "null":  # Groq, of a tool without parameters
        arguments = function["arguments"] = "{}"
        changed = True
    if not isinstance(arguments, str):
        function["arguments"] = "" if arguments is None else _json(arguments)
        changed = True
    return changed


def made_call_id(answer_id: str, at: int) -> str:
    """An id for a call that came without: unique to the answer, the same however the answer was cut."""
    return f"call_{answer_id.removeprefix('chatcmpl-')}_{at}"


class ChoiceState:
    """What a stream must remember of one choice to keep its deltas in OpenAI's order."""

    __slots__ = ("_answer_id", "_arguments", "_by_id", "_by_index", "_forced", "begun", "finished")

    def __init__(self, answer_id: str, *, forced: bool) -> None:
        self._answer_id = answer_id
        self._forced = forced
        self.begun = False
        self.finished = False
        self._arguments: list[bool] = []
        """For each call begun, whether arguments have come."""
        self._by_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}

    @property
    def closing_reason(self) -> str:
        """The finish reason of a choice whose provider gave none."""
        return "tool_calls" if self._arguments else "stop"

    def repair(self, choice: dict[str, Any]) -> bool:
        """Puts one choice of a chunk right; tells whether it had to.

        Raises:
            UpstreamError: the provider broke off, or sent what cannot be read.
        """
        changed = False
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            message = choice.get("message")
            delta = choice["delta"] = message if delta is None and isinstance(message, dict) else {}
            changed = True
        if "message" in choice:  # Perplexity repeats all text so far beside each delta
            del choice["message"]
            changed = True
        if not self.begun:
            self.begun = True
            if delta.get("role") != "assistant":
                delta["role"] = "assistant"
                changed = True
        elif "role" in delta:
            del delta["role"]
            changed = True
        if "reasoning" in delta or not isinstance(delta.get("content", ""), str | None):
            changed |= repair_text(delta)
        if "logprobs" in choice and choice["logprobs"] is not None:
            changed |= repair_logprobs(choice)
        if self.finished:
            return self._silence(choice, delta) or changed
        if delta.get("tool_calls") is not None:
            changed |= self._repair_call_deltas(delta)
        return self._finish(choice, delta) or changed

    def _silence(self, choice: dict[str, Any], delta: dict[str, Any]) -> bool:
        """Nothing is said after the finish reason, and it is given once."""
        spoken = [key for key in _AFTER_FINISH if key in delta]
        for key in spoken:
            del delta[key]
        again = choice.get("finish_reason") is not None
        if again:
            choice["finish_reason"] = None
        return again or bool(spoken)

    def _finish(self, choice: dict[str, Any], delta: dict[str, Any]) -> bool:
        told = choice.get("finish_reason")
        reason = finish_reason(told, called=bool(self._arguments), forced=self._forced)
        changed = reason != told or "finish_reason" not in choice
        choice["finish_reason"] = reason
        if reason is not None:
            self.finished = True
            if silent := [at for at, came in enumerate(self._arguments) if not came]:  # tools without parameters
                calls = delta["tool_calls"] = delta.get("tool_calls") or []
                calls += [{"index": at, "function": {"arguments": "{}"}} for at in silent]
                changed = True
        return changed

    def _repair_call_deltas(self, delta: dict[str, Any]) -> bool:
        calls = delta["tool_calls"]
        if not isinstance(calls, list) or not calls:
            del delta["tool_calls"]
            return True
        changed = False
        for call in calls:
            _check_call(call)
            changed |= self._repair_call_delta(call)
        return changed

    def _repair_call_delta(self, call: dict[str, Any]) -> bool:
        """Numbers a call's delta by our own count, and has id, type and name in its first delta only."""
        told_index = index if type(index := call.get("index")) is int else None
        told_id = call.get("id")
        function: dict[str, Any] = call.get("function") or {}
        at = self._position(told_index, told_id, function.get("name"))
        if at is None:
            changed = self._begin(call, told_index, told_id)
        else:
            changed = False
            for holder, name in ((call, "id"), (call, "type"), (function, "name")):
                if name in holder:
                    del holder[name]
                    changed = True
            at_index = call.get("index") == at
            call["index"] = at
            if function and not isinstance(function.get("arguments"), str):
                arguments = function.get("arguments")
                function["arguments"] = "" if arguments is None else _json(arguments)
                changed = True
            changed |= not at_index
        if function.get("arguments"):
            self._arguments[call["index"]] = True
        return changed

    def _position(self, index: int | None, call_id: object, name: object) -> int | None:
        """Which begun call a delta continues; None where it begins one."""
        if isinstance(call_id, str) and call_id:
            if call_id in self._by_id:
                return self._by_id[call_id]
            return None if name or index is None else self._by_index.get(index)
        if index is not None:
            return self._by_index.get(index)
        return None if name or not self._arguments else len(self._arguments) - 1

    def _begin(self, call: dict[str, Any], index: int | None, call_id: object) -> bool:
        at = len(self._arguments)
        changed = index != at or call.get("type") != "function"
        if not isinstance(call_id, str) or not call_id:
            call_id = call["id"] = made_call_id(self._answer_id, at)
            changed = True
        call["index"] = at
        changed |= repair_function(call)
        self._arguments.append("custom" in call)
        self._by_id[call_id] = at
        if index is not None:
            self._by_index[index] = at
        return changed
