"""OpenAI's messages as Gemini's contents.

Results of functions stand in contents of their own, all of one turn together. A function's result must be an object:
text that is none is wrapped as `{"output": text}`. Thought signatures go back to the part that they came with: those of
calls by the call (`extra_content.google.thought_signature`, or `reasoning_details` with the call's id), that of the
text by an entry of `reasoning_details` without id.

Source: https://ai.google.dev/api/caching#Content, https://ai.google.dev/gemini-api/docs/function-calling,
https://ai.google.dev/gemini-api/docs/thought-signatures (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from adapters.base import NOT_JSON
from adapters.media import Media, media_of
from adapters.openai_chat import Call, JsonObject, Message, Part, Request, arguments_of, text_only
from gateway.errors import bad_request

REASONING_FORMAT = "google-gemini-v1"
"""What marks Gemini's signatures in `reasoning_details`."""

NO_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""What a call is sent with that another provider's model made, where signatures are demanded: base64 of the documented
`skip_thought_signature_validator`."""

_FALLBACK_MIME: Mapping[str, str] = {"image_url": "image/jpeg", "video_url": "video/mp4", "file": "application/pdf"}


def contents_of(request: Request, *, signed: bool) -> tuple[list[JsonObject], list[JsonObject]]:
    """The parts of the system instruction, and the contents. `signed`: the model demands a signature on calls.

    Raises:
        CallerError: a message holds what Gemini cannot read.
    """
    system: list[JsonObject] = []
    contents: list[JsonObject] = []
    called: dict[str, str] = {}
    answering = False
    for at, message in enumerate(request.messages):
        where = f"messages[{at}]"
        if message.role in ("system", "developer"):
            system += _text_parts(text_only(message, where))
        elif message.role == "tool":
            part = _function_response(message, called, where)
            if answering:
                contents[-1]["parts"].append(part)
            else:
                contents.append({"role": "user", "parts": [part]})
            answering = True
        elif message.role in ("user", "assistant"):
            is_user = message.role == "user"
            parts = _parts(message.content, where) if is_user else _model_parts(message, where, signed)
            contents.append({"role": "user" if is_user else "model", "parts": parts or [{"text": ""}]})
            answering = False
            called.update((call.id or "", call.function.name) for call in message.tool_calls or () if call.function)
        else:
            raise bad_request("Messages of role 'function' are out of use; send role 'tool'.", f"{where}.role")
    if contents:
        return system, contents
    return [], [{"role": "user", "parts": system or [{"text": ""}]}]  # Gemini wants some content


def _text_parts(text: str | None) -> list[JsonObject]:
    return [{"text": text}] if text else []


def _parts(content: str | list[Part] | None, where: str) -> list[JsonObject]:
    if not isinstance(content, list):
        return _text_parts(content)
    parts: list[JsonObject] = []
    for at, part in enumerate(content):
        media = media_of(part, f"{where}.content[{at}]")
        if media is None:
            parts += _text_parts(part.text or part.refusal)
        else:
            parts.append(_media_part(media, part.type))
    return parts


def _media_part(media: Media, kind: str) -> JsonObject:
    if media.url:
        mime = media.mime or _FALLBACK_MIME.get(kind, "application/octet-stream")
        return {"fileData": {"mimeType": mime, "fileUri": media.url}}
    return {"inlineData": {"mimeType": media.mime, "data": media.data}}


def _model_parts(message: Message, where: str, signed: bool) -> list[JsonObject]:
    signatures, text_signature = _signatures(message)
    parts = _text_parts(text_only(message, where))
    if text_signature:
        parts = parts or [{"text": ""}]
        parts[-1]["thoughtSignature"] = text_signature
    unsigned = True
    for at, call in enumerate(message.tool_calls or ()):
        function, arguments = arguments_of(call, f"{where}.tool_calls[{at}]")
        part: JsonObject = {"functionCall": {"name": function.name, "args": arguments}}
        if call.id:
            part["functionCall"]["id"] = call.id
        signature = _given(call) or signatures.get(call.id or "")
        if signature is None and signed and unsigned:
            signature = NO_SIGNATURE
        if signature is not None:
            part["thoughtSignature"] = signature
            unsigned = False  # of parallel calls only the first is signed
        parts.append(part)
    return parts


def _signatures(message: Message) -> tuple[dict[str, str], str | None]:
    """Signatures by call id, and that of the text."""
    by_call: dict[str, str] = {}
    of_text: str | None = None
    for detail in message.reasoning_details or ():
        if detail.type != "reasoning.encrypted" or not detail.data or detail.format != REASONING_FORMAT:
            continue
        if detail.id:
            by_call[detail.id] = detail.data
        else:
            of_text = detail.data
    return by_call, of_text


def _given(call: Call) -> str | None:
    google = (call.extra_content or {}).get("google")
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) and signature else None


def _function_response(message: Message, called: Mapping[str, str], where: str) -> JsonObject:
    call_id = message.tool_call_id or ""
    name = called.get(call_id)
    if name is None:
        raise bad_request(f"tool_call_id '{call_id}' answers no call of the messages before.", f"{where}.tool_call_id")
    parts = _parts(message.content, where)
    response: JsonObject = {"name": name, "response": _object("".join(part.get("text", "") for part in parts))}
    if call_id:
        response["id"] = call_id
    if media := [part for part in parts if "text" not in part]:
        response["parts"] = media
    return {"functionResponse": response}


def _object(text: str) -> JsonObject:
    if text.lstrip()[:1] == "{":
        try:
            value = msgspec.json.decode(text)
        except NOT_JSON:
            value = None
        if isinstance(value, dict):
            return value
    return {"output": text}
