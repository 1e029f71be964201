"""What a stream must remember of one choice, to keep its deltas in the order that OpenAI's clients rely on."""

from __future__ import annotations

from typing import Any

from adapters.answers import made_call_id
from adapters.repair import (
    as_json,
    check_call,
    finish_reason,
    repair_function,
    repair_logprobs,
    repair_text,
)

_AFTER_FINISH = ("content", "reasoning_content", "refusal", "tool_calls", "function_call")


class ChoiceState:
    """One choice of one stream: whether it has begun and finished, and its tool calls so far."""

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
    def plain(self) -> bool:
        """Whether it is under way and has only said text so far."""
        return not self.finished and not self._arguments

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
            check_call(call)
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
                function["arguments"] = "" if arguments is None else as_json(arguments)
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
