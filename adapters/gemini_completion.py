"""A buffered answer of Gemini as a completion."""

from __future__ import annotations

from adapters.answers import JsonObject, choice_of, finish_of, message_of, unasked
from adapters.base import NOT_JSON, Completion, Stamp
from adapters.events import completion_body, unreadable
from adapters.failures import failure, read_problem
from adapters.gemini_answer import (
    Candidate,
    decode_answer,
    decode_usage,
    finish_reason_of,
    image_of,
    logprobs_of,
    service_tier_of,
    usage_of,
)
from adapters.gemini_calls import Calls
from gateway.chat import Chat
from gateway.types import Usage


def generate_completion(body: bytes, chat: Chat, stamp: Stamp) -> Completion:
    """A response of :generateContent in OpenAI's form; a refused prompt is a choice that the filter ended.

    Raises:
        UpstreamError: the body is no response, or an error under status 200.
    """
    try:
        answer = decode_answer(body)
        told = decode_usage(answer.usage or b"{}")
    except NOT_JSON:
        raise unreadable() from None
    if answer.error is not None:
        raise failure(200, {}, read_problem(body))
    usage = usage_of(told) if told else None
    if answer.block is not None:
        usage = usage or Usage()  # a refused prompt of which no tokens are told has used none
        message = message_of("", refusal=answer.block.block_reason_message)
        choices = [choice_of(message, "content_filter")]
    elif answer.candidates:
        choices = [_choice(candidate, stamp) for candidate in answer.candidates]
    else:
        raise unasked()
    model = answer.model_version or chat.model
    tier = service_tier_of(told)
    made = completion_body(stamp, model, choices, usage, service_tier=tier)
    return Completion(made, usage, answer.model_version or None, tier)


def _choice(candidate: Candidate, stamp: Stamp) -> JsonObject:
    calls = Calls(stamp.id)
    text, reasoning = "", ""
    made: list[JsonObject] = []
    details: list[JsonObject] = []
    images: list[JsonObject] = []
    for part in candidate.content.parts if candidate.content is not None else ():
        if part.function_call is not None:
            call, signed = calls.begin(part.function_call, part.thought_signature)
            made.append(call)
            details += signed
            continue
        if part.thought:
            reasoning += part.text or ""
        else:
            text += part.text or ""
        if part.inline_data is not None and part.inline_data.mime_type.startswith("image/"):
            images.append(image_of(part.inline_data))
        if part.has_signature:
            details.append(calls.signed(part.thought_signature or ""))
    message = message_of(text, calls=made, reasoning=reasoning, reasoning_details=details, images=images)
    finish = finish_of(finish_reason_of(candidate.finish_reason), bool(made))
    logprobs = logprobs_of(candidate.logprobs_result)
    return choice_of(message, finish, index=candidate.index, logprobs=logprobs)
