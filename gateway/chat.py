"""The caller's chat-completions request: parsed once, never changed.

The body is scanned, not decoded: top-level members stay slices of the caller's own bytes (`msgspec.Raw`), so a provider
of the same dialect gets what the caller wrote, spliced together again, and a long conversation is never re-encoded.
What the gateway itself must know is decoded strictly into `Head`, other members only for those who look at them
(`Chat.member()`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.errors import CallerError, Kind, bad_request

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
_NULL = Raw(b"null")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Message(Struct):
    """As much of a message as routing and adapters must know; values stay raw."""

    role: Role
    content: Raw = _NULL
    tool_calls: Raw = _NULL
    reasoning_content: Raw | UnsetType = UNSET
    reasoning_details: Raw | UnsetType = UNSET


class StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Head(Struct):
    """The members of the body that the gateway acts on, with OpenAI's types and ranges. Schemas stay raw, being long.

    Source: OpenAI API description, CreateChatCompletionRequest (read 2026-11-21).
    """

    model: Annotated[str, Meta(min_length=1, max_length=512)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None
    tools: list[dict[str, Raw]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[dict[str, Raw]] | None = None
    response_format: dict[str, Raw] | None = None
    modalities: list[str] | None = None
    metadata: dict[str, str] | None = None
    gateway: dict[str, Any] | None = None


_members = msgspec.json.Decoder(dict[str, Raw])
_head = msgspec.json.Decoder(Head)
_whole = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode
"""Raw members are copied as they are, a long prompt hardly slower than by `bytes.join`."""

# Members that would redirect a call or carry credentials in other gateways: refused, never passed on (case S3).
_REFUSED = frozenset({"api_base", "base_url", "api_key", "extra_headers", "api_version", "custom_llm_provider"})


class Chat:
    """One chat-completions request.

    `members` maps each top-level field to its raw JSON, without `gateway`. Treat every attribute as frozen: each
    attempt starts from the same request. `replace()` makes a changed copy.
    """

    __slots__ = ("escaped", "head", "include_usage", "members", "model", "size", "stream")

    def __init__(self, members: dict[str, Raw], head: Head, size: int, *, escaped: bool = False) -> None:
        self.members = members
        self.head = head
        self.model = head.model
        self.stream = head.stream is True
        self.include_usage = bool(head.stream_options and head.stream_options.include_usage)
        self.size = size
        """Bytes of the body as sent."""
        self.escaped = escaped
        """Whether characters are written as `\\uXXXX`, so that text is shorter than its bytes. Writers of JSON do so
        with all that is not ASCII or with none of it, so a body that has some as it is counts as having none."""

    def member(self, name: str) -> Any:
        """One member of the body decoded; None where it has none of that name.

        Raises:
            CallerError: BAD_REQUEST, there is something in it that nobody can read, such as a number too large.
        """
        raw = self.members.get(name)
        try:
            return None if raw is None else _whole.decode(raw)
        except msgspec.DecodeError as error:
            raise bad_request(f"Invalid value for '{name}': {error}.", name) from None

    def encode(self, changes: Mapping[str, bytes | None]) -> bytes:
        """The body as JSON with these members replaced, added, or (None) left out; everything else as it was sent."""
        return _encode(self._changed(changes))

    def replace(self, changes: Mapping[str, bytes | None]) -> Chat:
        """A request with these members changed, added or (None) left out, and everything else shared.

        Values come from the catalog or were checked before, so only their types are read, not the whole body again.
        """
        known = {
            name: None if raw is None else _whole.decode(raw) for name, raw in changes.items() if name in _HEAD_FIELDS
        }
        return Chat(
            self._changed(changes),
            msgspec.structs.replace(self.head, **known) if known else self.head,
            self.size,
            escaped=self.escaped,
        )

    def _changed(self, changes: Mapping[str, bytes | None]) -> dict[str, Raw]:
        members = self.members.copy()
        for name, raw in changes.items():
            if raw is not None:
                members[name] = Raw(raw)
            else:
                members.pop(name, None)
        return members

    def capped(self, cap: int) -> Chat:
        """The request with this cap on its output, under the names the caller used for it."""
        newer, older = self.head.max_completion_tokens, self.head.max_tokens
        above = []
        if newer is not None and newer > cap:
            above.append("max_completion_tokens")
        if (older is not None and older > cap) or (newer is None and older is None):
            above.append("max_tokens")
        return self.replace(dict.fromkeys(above, msgspec.json.encode(cap))) if above else self


_HEAD_FIELDS = frozenset(Head.__struct_fields__) - {"model", "messages", "stream_options"}


def parse_chat(body: bytes) -> Chat:
    """Parses and checks a request body.

    Raises:
        CallerError: BAD_REQUEST, naming the field and what it must be.
    """
    try:
        members = _members.decode(body)
        head = _head.decode(body)
        escaped = False
        if body.isascii():
            # Backwards, which looks for the backslash; forwards it would be the `u`, and take four times as long.
            escaped = (at := body.find(b"\\")) >= 0 and body.rfind(b"\\u", at) >= 0
        else:
            body.decode()  # raw members are not checked for UTF-8 by the scan
        if _may_repeat_model(body, bytes(members["messages"])):
            _refuse_repeated_keys(body)
    except msgspec.ValidationError as error:
        message, param = _where(str(error))
        raise bad_request(message, param) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(_unreadable(body, str(error))) from None
    except RecursionError:
        raise bad_request("The request body is nested too deeply.") from None
    members.pop("gateway", None)
    if not _REFUSED.isdisjoint(members):
        name = min(_REFUSED.intersection(members))
        raise bad_request(
            f"Unrecognized request argument supplied: {name}. Where calls go is set in the gateway's catalog.", name
        )
    return Chat(members, head, len(body), escaped=escaped)


def _where(error: str) -> tuple[str, str | None]:
    """msgspec's `Expected X, got Y - at $.messages[0].role` as a message and OpenAI's `param`."""
    text, _, path = error.partition(" - at `")
    param = path.rstrip("`").removeprefix("$").lstrip(".").replace("[...]", "") or None
    if param is None and text.startswith("Object missing required field `"):
        param = text.removeprefix("Object missing required field `").rstrip("`")
        return f"Missing required parameter: '{param}'.", param
    if text.startswith("Object missing required field `"):
        inner = text.removeprefix("Object missing required field `").rstrip("`")
        return f"Missing required parameter: '{param}.{inner}'.", f"{param}.{inner}"
    if param is not None and param.endswith(".role") and text.startswith("Invalid enum value"):
        text += f"; it is one of {', '.join(get_args(Role))}"
    return (f"Invalid value for '{param}': {text}." if param else f"Invalid request body: {text}."), param


def _unreadable(body: bytes, error: str) -> str:
    """Why a body is no JSON, in words that help."""
    if not body.strip():
        return "The request body is empty; send a JSON object."
    if error == "Input data was truncated" and _SURROGATE.search(body):  # the decoder says so of half a pair as well
        error = "it ends too early, or has half of a surrogate pair (\\ud800 to \\udfff) alone"
    return f"The request body is not valid JSON: {error}"


def _may_repeat_model(body: bytes, messages: bytes) -> bool:
    """Whether `"model"` stands more than once in the body beside its messages, so that a long conversation need not be
    searched; in all of it where in doubt.

    What stands behind a first `"messages"` and its colon is a value of the body, so no top-level key is lost with it.
    """
    key = body.find(b'"messages"')
    start = body.find(b"[", key, key + 16)
    if key < 0 or start < 0 or not body.startswith(messages, start):
        return body.count(b'"model"') > 1
    return body.count(b'"model"', 0, start) + body.count(b'"model"', start + len(messages)) > 1


def _refuse_repeated_keys(body: bytes) -> None:
    """Refuses a body whose top-level object repeats a key; only called where that is possible."""
    import json  # the one parser that reports pairs; off the hot path

    last: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        nonlocal last
        last = pairs  # the outermost object closes last

    # numbers stay text: Python refuses to convert one of thousands of digits
    json.loads(body, object_pairs_hook=keep, parse_int=str, parse_float=str)
    seen: set[str] = set()
    for name, _ in last:
        if name in seen:
            raise CallerError(
                Kind.BAD_REQUEST, f"The request body names '{name[:100]}' more than once.", param=name[:100]
            )
        seen.add(name)
