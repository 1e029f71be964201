"""Gemini's function calls, whole or in pieces, as OpenAI's tool calls."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec

from adapters.answers import JsonObject, encrypted_detail, made_call_id, tool_call
from adapters.gemini_answer import FunctionCall, PartialArg
from adapters.gemini_contents import REASONING_FORMAT

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,4})\]|\['([^']*)'\]")


@dataclass(slots=True)
class Calls:
    """The calls of one choice so far, and what `reasoning_details` it has."""

    answer_id: str
    count: int = 0
    details: int = 0
    pending: JsonObject | None = field(default=None)
    """Arguments of a call that comes in pieces."""

    def begin(self, call: FunctionCall, signature: str | None) -> tuple[JsonObject, list[JsonObject]]:
        """The tool call, its arguments empty where they come in pieces, and the details to give with it."""
        call_id = call.id or made_call_id(self.answer_id, self.count)
        self.count += 1
        whole = not (call.will_continue or call.partial_args)
        arguments = msgspec.json.format(bytes(call.args), indent=-1).decode()  # Gemini prints them over many lines
        made = tool_call(call_id, call.name or "", ("{}" if arguments == "null" else arguments) if whole else "")
        self.pending = None if whole else {}
        if not signature:
            return made, []
        made["extra_content"] = {"google": {"thought_signature": signature}}
        return made, [self.signed(signature, call_id)]

    def signed(self, signature: str, call_id: str | None = None) -> JsonObject:
        """The entry of `reasoning_details` for a signature."""
        self.details += 1
        return encrypted_detail(REASONING_FORMAT, self.details - 1, signature, call_id)

    def go_on(self, call: FunctionCall) -> str:
        """Takes pieces of the pending call's arguments; gives them all once they are complete, else ""."""
        if self.pending is None:
            return ""
        for piece in call.partial_args or ():
            put(self.pending, piece)
        return "" if call.will_continue else self.close()

    def close(self) -> str:
        """The arguments of the pending call, "" where there is none."""
        if self.pending is None:
            return ""
        arguments, self.pending = msgspec.json.encode(self.pending).decode(), None
        return arguments


def put(root: JsonObject, piece: PartialArg) -> None:
    """Puts a value at its JSON path (`$.a.b[0]`), making what lies on the way; text is appended to text.

    A path that cannot be followed is left out. Source:
    https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling (streamed arguments,
    read 2026-11-21).
    """
    steps: list[str | int] = [
        int(step[2]) if step[2] else step[1] or step[3] for step in _STEP.finditer(piece.json_path)
    ]
    if not steps:
        return
    at: Any = root
    for step, following in pairwise(steps):
        inner = _get(at, step)
        if inner is None:
            inner = [] if isinstance(following, int) else {}
            _set(at, step, inner)
        at = inner
    last, value = steps[-1], piece.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    before = _get(at, last)
    _set(at, last, before + value if isinstance(before, str) and isinstance(value, str) else value)


def _get(holder: Any, step: str | int) -> Any:
    if isinstance(holder, dict) and isinstance(step, str):
        return holder.get(step)
    if isinstance(holder, list) and isinstance(step, int) and step < len(holder):
        return holder[step]
    return None


def _set(holder: Any, step: str | int, value: Any) -> None:
    if isinstance(holder, dict) and isinstance(step, str):
        holder[step] = value
    elif isinstance(holder, list) and isinstance(step, int):
        if step < len(holder):
            holder[step] = value
        elif step == len(holder):
            holder.append(value)
