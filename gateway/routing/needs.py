"""What a request demands of whoever answers it, read from its body without decoding the conversation.

A need is something without which the answer would not be what was asked for. What only helps (a system message, which
every adapter can carry) is none, lest a catalog that leaves a word out refuse good requests; callers can `require` it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct as Layout
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from gateway.chat import Chat, Message
from gateway.errors import bad_request
from gateway.types import Capability, Needs, Options, mask_of

_BYTES_PER_TOKEN = 4
"""Of English text and code in JSON; other scripts have fewer bytes to a token but more tokens to a word."""
_TOOLS_OVERHEAD_TOKENS = 1_000
"""More than providers add to a prompt with tools; Anthropic adds 159 to 530.
Source: https://docs.anthropic.com/en/docs/tool-use-pricing-and-tokens (read 2026-11-21)."""
_FRAMING_TOKENS = 64
"""What chat templates add to a prompt beyond what JSON already spends on each message."""
_first_byte = Layout("B").unpack_from
"""Of anything, as a tuple: half of a memoryview's time, for each message of each request."""
_ARRAY = (ord("["),)


class _Part(Struct):
    """One content part; its payload stays raw."""

    type: str = ""
    image_url: Raw = Raw(b"")
    input_audio: Raw = Raw(b"")
    file: Raw = Raw(b"")
    video_url: Raw = Raw(b"")


class _Medium(NamedTuple):
    """What one part of a kind may cost in tokens, whichever model reads it.

    Inline payloads are priced by their length in bytes as base64; what is behind a URL or a file id is not seen.
    """

    bit: int
    field: str
    likely_tokens: int
    bytes_per_likely_token: int | None
    worst_tokens: int
    bytes_per_worst_token: int | None


# Images: gpt-4o-mini charges the most of any model known, about 2,800 and 5,700 more for each of up to eight tiles.
# Source: https://community.openai.com/t/1262691 (measured 2,845 and 8,512 for no and for one tile; read 2026-11-21).
# Audio and video: Gemini counts 32 and 263 tokens a second, and speech is hardly coded below 750 bytes a second.
# Source: https://geminibyexample.com/027-calculate-input-tokens (read 2026-11-21).
_MEDIA: Mapping[str, _Medium] = {
    "image_url": _Medium(Capability.IMAGE_INPUT.bit, "image_url", 1_500, None, 50_000, None),
    "input_audio": _Medium(Capability.AUDIO_INPUT.bit, "input_audio", 0, 400, 0, 16),
    "file": _Medium(Capability.DOCUMENT_INPUT.bit, "file", 2_000, 20, 100_000, 1),
    "video_url": _Medium(Capability.VIDEO_INPUT.bit, "video_url", 20_000, 400, 1_000_000, 1),
}
_parts = msgspec.json.Decoder(list[_Part])
_decode = msgspec.json.Decoder().decode
_NULL = Raw(b"null")

_MEDIA_INPUT = mask_of(
    [Capability.IMAGE_INPUT, Capability.AUDIO_INPUT, Capability.DOCUMENT_INPUT, Capability.VIDEO_INPUT]
)

_STREAMING = Capability.STREAMING.bit
_TEXT_OUTPUT = Capability.TEXT_OUTPUT.bit
_FUNCTIONS = Capability.FUNCTION_CALLING.bit
_PARALLEL = Capability.PARALLEL_TOOL_CALLS.bit
_LOGPROBS = Capability.LOGPROBS.bit
_CHOICES = Capability.MULTIPLE_CHOICES.bit
_THINKING = Capability.EXTENDED_THINKING.bit
_AUDIO_OUTPUT = Capability.AUDIO_OUTPUT.bit
_FORMATS: Mapping[str, int] = {
    "json_schema": Capability.STRUCTURED_OUTPUT.bit,
    "json_object": Capability.JSON_MODE.bit,
}


def infer_needs(chat: Chat, options: Options) -> Needs:
    """The needs of a chat request, with what its caller requires beyond the body.

    Parallel tool calls are needed only where the body says `parallel_tool_calls: true`: left out, a model that calls
    one tool at a time still answers well. An effort of `none` needs no reasoning. The prompt's tokens are estimated
    from the bytes of messages, tools and response format; the bound is a token for each of them plus media at their
    worst.

    Raises:
        CallerError: a message's content is an array, but not of content parts.
    """
    head, members, escaped = chat.head, chat.members, chat.escaped
    mask = _TEXT_OUTPUT | options.require
    if chat.stream:
        mask |= _STREAMING
    prompt_bytes = _text_bytes(members["messages"], escaped)
    overhead_tokens = _FRAMING_TOKENS
    likely_tokens = worst_tokens = 0

    in_parts = False
    for message in head.messages:
        if _first_byte(message.content) == _ARRAY:
            in_parts = True
        if message.role == "tool":
            mask |= _FUNCTIONS
    if in_parts:
        media = _media_of(head.messages, escaped)
        mask |= media.mask
        prompt_bytes -= media.payload_bytes
        likely_tokens, worst_tokens = media.likely_tokens, media.worst_tokens
    if head.tools or head.functions:
        mask |= _FUNCTIONS | (_PARALLEL if head.parallel_tool_calls else 0)
        overhead_tokens += _TOOLS_OVERHEAD_TOKENS
        prompt_bytes += sum(_text_bytes(members[name], escaped) for name in ("tools", "functions") if name in members)
    if head.response_format is not None:
        mask |= _FORMATS.get(str(_decode(head.response_format.get("type", _NULL))), 0)
        prompt_bytes += _text_bytes(members["response_format"], escaped)
    if head.logprobs:
        mask |= _LOGPROBS
    if head.reasoning_effort is not None and head.reasoning_effort != "none":
        mask |= _THINKING
    if head.modalities is not None and "audio" in head.modalities:
        mask |= _AUDIO_OUTPUT
    choices = head.n or 1
    if choices > 1:
        mask |= _CHOICES

    return Needs(
        mask,
        prompt_bytes // _BYTES_PER_TOKEN + likely_tokens + 1,
        prompt_bytes + worst_tokens + overhead_tokens,
        head.max_completion_tokens if head.max_completion_tokens is not None else head.max_tokens,
        choices,
        chat.stream,
        prompt_bytes if mask & _MEDIA_INPUT == 0 else 0,
    )


def _text_bytes(raw: bytes | Raw, escaped: bool) -> int:
    """The bytes of a member; where characters are written as `\\uXXXX`, of the UTF-8 that its escapes stand for.

    JSON's escapes are Python's but for `\\/`, which stays as it is; others were refused with their body, as was half of
    a surrogate pair. Python reads 2 GB of them a second; searching takes longer.
    """
    if not escaped:
        return len(memoryview(raw))
    try:
        text = bytes(raw).decode("unicode_escape")
    except Warning:  # of `\\/`, where warnings are errors
        return len(memoryview(raw))
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # pairs of surrogates are two characters here
        return len(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode())


class _Media(NamedTuple):
    mask: int
    payload_bytes: int
    likely_tokens: int
    worst_tokens: int


def _media_of(messages: Sequence[Message], escaped: bool) -> _Media:
    """What the non-text parts of all messages need and weigh."""
    mask = payload_bytes = likely_tokens = worst_tokens = 0
    for index, message in enumerate(messages):
        if _first_byte(message.content) == _ARRAY:
            media = _media(message.content, index, escaped)
            mask |= media.mask
            payload_bytes += media.payload_bytes
            likely_tokens += media.likely_tokens
            worst_tokens += media.worst_tokens
    return _Media(mask, payload_bytes, likely_tokens, worst_tokens)


def _media(content: Raw, index: int, escaped: bool) -> _Media:
    """What the non-text parts of one message's content need and weigh."""
    try:
        parts = _parts.decode(content)
    except msgspec.ValidationError as error:
        raise bad_request(
            f"Invalid value for 'messages[{index}].content': content parts must be objects with a type ({error}).",
            f"messages[{index}].content",
        ) from None
    mask = payload_bytes = likely_tokens = worst_tokens = 0
    for part in parts:
        medium = _MEDIA.get(part.type)
        if medium is None:
            continue
        payload = getattr(part, medium.field)
        size = len(memoryview(payload))
        mask |= medium.bit
        payload_bytes += _text_bytes(payload, escaped)
        likely_tokens += medium.likely_tokens
        worst_tokens += medium.worst_tokens
        if medium.bytes_per_likely_token is not None:
            likely_tokens += size // medium.bytes_per_likely_token
        if medium.bytes_per_worst_token is not None:
            worst_tokens += size // medium.bytes_per_worst_token
    return _Media(mask, payload_bytes, likely_tokens, worst_tokens)
