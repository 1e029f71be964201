"""Pieces of OpenAI's answers that translations make alike, buffered or streamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.errors import Kind, UpstreamError

JsonObject = dict[str, Any]


MOST = 10**12
"""More than any number of tokens. Counts are cut to it, so that whatever adds them up or sends them on can hold a sum;
that they are none is for the gateway to see.
"""


def count(raw: Mapping[str, Any], name: str) -> int:
    """A count of a usage object, at most `MOST`; 0 where it is absent, null or no count."""
    value = raw.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return 0
    return value if value < MOST else MOST


def finish_of(reason: str, called: bool) -> str:
    """`stop` and `tool_calls` by whether tools were called, whatever the provider said; other reasons as they are."""
    if reason in ("stop", "tool_calls"):
        return "tool_calls" if called else "stop"
    return reason


def text_detail(form: str, index: int, text: str, signature: str | None) -> JsonObject:
    """Reasoning text with the signature by which its provider knows it again."""
    detail: JsonObject = {"type": "reasoning.text", "text": text, "format": form, "index": index}
    if signature:
        detail["signature"] = signature
    return detail


def encrypted_detail(form: str, index: int, data: str, call_id: str | None = None) -> JsonObject:
    """Reasoning that only its provider can read; `call_id` is the tool call that it belongs to."""
    detail: JsonObject = {"type": "reasoning.encrypted", "data": data, "format": form, "index": index}
    if call_id:
        detail["id"] = call_id
    return detail


def tool_call(call_id: str, name: str, arguments: str) -> JsonObject:
    """A tool call of a message."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def message_of(
    text: str,
    *,
    calls: Sequence[JsonObject] = (),
    refusal: str | None = None,
    reasoning: str = "",
    **lists: Sequence[Any],
) -> JsonObject:
    """An assistant's message; `content` is null where there are only calls or a refusal. Empty lists are left out."""
    message: JsonObject = {
        "role": "assistant",
        "content": text if text or not (calls or refusal) else None,
        "refusal": refusal,
    }
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    message.update({name: value for name, value in lists.items() if value})
    return message


def choice_of(message: JsonObject, finish_reason: str, *, index: int = 0, logprobs: Any = None) -> JsonObject:
    """A choice of a completion."""
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}


def unasked() -> UpstreamError:
    """The failure of an answer under status 200 that holds neither choices nor an error."""
    return UpstreamError(Kind.BROKEN, "The provider's answer holds no message.", billed=True)


def made_call_id(answer_id: str, at: int) -> str:
    """An id for a call that came without: unique to the answer, the same however the answer was cut."""
    return f"call_{answer_id.removeprefix('chatcmpl-')}_{at}"


class Said:
    """An answer that comes in blocks (Anthropic, Converse), on its way to a message."""

    __slots__ = ("_answer_id", "_details", "_form", "_reasoning", "calls", "text")

    def __init__(self, form: str, answer_id: str) -> None:
        """`form` is what reasoning details are marked with."""
        self._form = form
        self._answer_id = answer_id
        self._reasoning = ""
        self._details: list[JsonObject] = []
        self.text = ""
        self.calls: list[JsonObject] = []

    def reason(self, text: str, signature: str | None) -> None:
        """A block of reasoning, with what its provider knows it again by."""
        self._reasoning += text
        self._details.append(text_detail(self._form, len(self._details), text, signature))

    def reason_unseen(self, data: str) -> None:
        """A block of reasoning that only its provider can read."""
        self._details.append(encrypted_detail(self._form, len(self._details), data))

    def call(self, call_id: str | None, name: str, arguments: str) -> None:
        """A tool call; one without an id gets one."""
        self.calls.append(tool_call(call_id or made_call_id(self._answer_id, len(self.calls)), name, arguments))

    def choice(self, reason: str, *, refusal: str | None = None, **lists: Sequence[Any]) -> JsonObject:
        """All of it as a completion's choice; `reason` is why it ended, in OpenAI's words."""
        message = message_of(
            self.text,
            calls=self.calls,
            refusal=refusal,
            reasoning=self._reasoning,
            reasoning_details=self._details,
            **lists,
        )
        return choice_of(message, finish_of(reason, bool(self.calls)))
