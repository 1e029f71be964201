"""The stream of an OpenAI-like provider: what is right goes on as it came, what is not is put right.

Three gears. An event is decoded, judged member by member and, where need be, repaired. One whose chunk is plain is
judged by being decoded into types. From an event that says one piece of text and nothing else a template is learned:
the bytes before and after the text. Whatever part of a read consists of events of that template is relayed untouched
after a few searches at C speed, however many it holds. So no provider has to be trusted, and a well-behaved one costs
next to nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from adapters.base import ChatStream, Stamp
from adapters.choice_state import ChoiceState
from adapters.events import DONE, cut_short, openai_usage, unreadable, utf8_size
from adapters.failures import failure, read_problem
from adapters.framing import FramingError, SseSplitter, parse_events
from adapters.plain_chunk import PlainChunk, plain_chunk
from adapters.repair import SERVICE_TIERS, decode
from adapters.template import Template, learned
from adapters.usage import judged, read_usage, repaired_usage
from gateway.chat import Chat
from gateway.errors import UpstreamError
from gateway.types import Usage

_encode = msgspec.json.Encoder().encode
MAX_CHOICES = 128
"""OpenAI's limit of `n`."""
_BARE_ERROR_BYTES = 64 * 1024
_TEXT_KEYS = ("content", "reasoning_content", "refusal")
_CHUNK = "chat.completion.chunk"
_ENVELOPE = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"})
_GOES_ON = {"index", "function"}
"""What a call's later deltas have."""
_NOT_HELD = _ENVELOPE | {"obfuscation", "x_groq"}


class OpenAiStream(ChatStream):
    """A stream in OpenAI's dialect, made fit for OpenAI's clients."""

    def __init__(self, chat: Chat, stamp: Stamp) -> None:
        options = chat.head.stream_options
        self._include_usage = chat.include_usage
        self._obfuscated = bool(options and options.include_obfuscation)
        self._forced = is_forced(chat)
        self._alias = chat.model
        self._stamp = stamp
        self._splitter = SseSplitter()
        self._identity: dict[str, Any] = {}
        """id, object, created and model of every chunk."""
        self._choices: dict[int, ChoiceState] = {}
        self._held: dict[str, Any] = {}
        """Members of chunks without choices, which go with the next chunk that has some."""
        self._told: object = None
        """The last usage object that the provider sent, where it had to be looked at closely."""
        self._told_usage: Usage | None = None
        """What the provider's last word on usage says."""
        self._usage_block = b""
        """The chunk that held it, where it can go to a caller as it came."""
        self._template: Template | None = None

    def feed(self, data: bytes) -> bytes:
        if self.failure is not None or self.finished:
            return b""
        try:
            text = self._splitter.take(data)
        except FramingError:
            self.failure = unreadable("The provider sent an event that is too long.")
            return b""
        if text:
            return self._relay(text)
        if not self.started:
            self._look_for_bare_error()
        return b""

    def end(self) -> bytes:
        out: list[bytes] = []
        if self.failure is None and not self.finished:
            for name, payload in self._splitter.close():
                out.append(self._event(name, payload, b""))
        if self.failure is None and not self.told_all:
            self.failure = cut_short()
        if self.failure is not None:
            return b""
        self.finished = True
        for index, choice in self._choices.items():
            if not choice.finished:
                closing = {"index": index, "delta": {}, "finish_reason": choice.closing_reason}
                out.append(_framed({**self._identity, "choices": [closing]}))
        if self._include_usage and self.usage is not None:
            out.append(self._usage_event(self.usage))
        out.append(DONE)
        return b"".join(out)

    def _look_for_bare_error(self) -> None:
        """Some servers answer a request for a stream with status 200 and an error as plain JSON, without framing."""
        if not self._splitter.begins(b"{"):
            return
        body = self._splitter.pending
        if (problem := read_problem(body)).message:
            self.failure = failure(200, {}, problem)
        elif len(body) > _BARE_ERROR_BYTES:
            self.failure = unreadable()

    @property
    def told_all(self) -> bool:
        """Whether an answer came to its end: `[DONE]`, or every choice finished where a provider says no more."""
        return bool(self._choices) and (self.finished or all(choice.finished for choice in self._choices.values()))

    def _usage_event(self, usage: Usage) -> bytes:
        if self._usage_block and self._told_usage == usage:
            return self._usage_block
        raw = self._told
        told = read_usage(raw)
        known, right = (None, False) if told is None else judged(told)
        if known != usage or not isinstance(raw, dict):
            shown = openai_usage(usage)
        else:
            shown = raw if right else repaired_usage(raw, usage)
        return _framed({**self._identity, "choices": [], "usage": shown})

    # ------------------------------------------------------------------------------------------------------- relaying

    def _relay(self, text: bytes) -> bytes:
        out: list[bytes] = []
        at, end, alone = 0, len(text), False
        kept = 0  # from here to `at` all goes on as it came, in one piece
        while at < end and self.failure is None and not self.finished:
            template = self._template
            if template is not None and text.startswith(template.prefix, at):
                stop, count = template.run(text, at, alone=alone)
                if stop > at:
                    self.output_bytes += stop - at - count * template.size
                    at, alone = stop, alone or count == 1
                    continue
            line = text.find(b"\n", at) + 1  # most events are one line, and one byte is found sooner than two
            stop = line + 1 if text.startswith(b"\n", line) else text.find(b"\n\n", line) + 2
            stop = stop if stop > 1 else end  # an odd blank line at the end
            block = text[at:stop]
            if block == DONE:
                self.finished = True
                break
            relayed = None if (chunk := plain_chunk(block)) is None else self._plain(chunk, block)
            if relayed is None:
                relayed = b"".join([self._event(name, payload, block) for name, payload in parse_events(block)])
            if relayed is not block:
                out += (text[kept:at], relayed)
                kept = stop
            at = stop
        out.append(text[kept:at])
        return out[0] if len(out) == 1 else b"".join(out)

    # -------------------------------------------------------------------------------------------------------- judging

    def _plain(self, chunk: PlainChunk, block: bytes) -> bytes | None:
        """What the caller gets of a plain chunk: `block`, or nothing. None where the stream so far makes it unfit."""
        if self._held or (chunk.obfuscation is not UNSET and not self._obfuscated):
            return None
        identity = self._identity
        if not chunk.choices:
            return self._plain_usage(chunk, block)
        choice = chunk.choices[0]
        delta, state = choice.delta, self._choices.get(0)
        if state is None:
            if identity or chunk.usage is not None or delta.role is UNSET:
                return None
            state = self._choices[0] = ChoiceState(self._stamp.id, forced=self._forced)
            state.begun = True
            self.model = chunk.model
            self._identity = {"id": chunk.id, "object": _CHUNK, "created": chunk.created, "model": chunk.model}
        elif not self._goes_on(chunk) or chunk.usage is not None or delta.role is not UNSET or not state.plain:
            return None
        said, only = 0, ""
        if (text := delta.content) is not None:
            said, only = 1, "content"
            self.output_bytes += utf8_size(text)
        if (text := delta.reasoning_content) is not None:
            said, only = said + 1, "reasoning_content"
            self.output_bytes += utf8_size(text)
        if (text := delta.refusal) is not None:
            said, only = said + 1, "refusal"
            self.output_bytes += utf8_size(text)
        if chunk.service_tier is not None:
            self.service_tier = chunk.service_tier
        self.started = True
        if choice.finish_reason is not None:
            state.finished = True
            self._template = None  # nothing more is to be said
        elif said == 1 and delta.role is UNSET:
            self._template = learned(block, only)
        return block

    def _plain_usage(self, chunk: PlainChunk, block: bytes) -> bytes | None:
        """Keeps a usage chunk that callers can read as it came; it goes out at the end, to those who asked for it."""
        told = chunk.usage
        if told is None or told.prompt_tokens is None or not self._goes_on(chunk):
            return None
        usage, right = judged(told)
        if not right:
            return None
        self.usage = self._told_usage = usage
        self._usage_block = block
        return b""

    def _goes_on(self, chunk: PlainChunk) -> bool:
        """Whether a chunk has the id, model and time of the first."""
        identity = self._identity
        return (
            chunk.id == identity.get("id") and chunk.model == identity["model"] and chunk.created == identity["created"]
        )

    def _event(self, name: str | None, payload: bytes, block: bytes) -> bytes:
        """What the caller gets of one event: `block` as it came, a repaired one, or nothing."""
        if self.failure is not None or self.finished:
            return b""
        if payload == b"[DONE]":
            self.finished = True
            return b""
        try:
            chunk = decode(payload)
        except msgspec.DecodeError:
            chunk = None
        if not isinstance(chunk, dict):
            self.failure = unreadable() if block else cut_short()
            return b""
        try:
            return self._chunk(name, chunk, block)
        except UpstreamError as error:
            self.failure = error
            return b""

    def _chunk(self, name: str | None, chunk: dict[str, Any], block: bytes) -> bytes:
        changed = self._take_usage(chunk, block)
        choices = chunk.get("choices")
        _raise_error(name, chunk, choices)
        if not isinstance(choices, list) or not choices:
            self._held |= {key: value for key, value in chunk.items() if key not in _NOT_HELD and value is not None}
            return b""
        changed |= self._identify(chunk)
        if "obfuscation" in chunk and not self._obfuscated:
            del chunk["obfuscation"]
            changed = True
        if self._held:
            chunk |= self._held
            self._held = {}
            changed = True
        kept = []
        for at, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise unreadable()
            keep, repaired = self._choice(at, choice)
            if choice.get("finish_reason") is not None or choice["delta"].get("tool_calls"):
                self._template = None  # nothing more is to be said, or calls have begun and are numbered anew
            changed |= repaired or not keep
            if keep:
                kept.append(choice)
        if not kept:
            return b""
        self.started = True
        if changed or not _is_simple(block):
            chunk["choices"] = kept
            return _framed(chunk)
        if len(kept) == 1 and (only := _only_member(kept[0])) is not None:
            key, value = only
            if key in _TEXT_KEYS and isinstance(value, str):
                self._template = learned(block, key)
            elif key == "tool_calls" and _only_arguments(value):
                self._template = learned(block, "arguments", counted=True)
        return block

    def _choice(self, at: int, choice: dict[str, Any]) -> tuple[bool, bool]:
        """Whether the choice says anything, and whether it had to be changed."""
        index = choice.get("index")
        changed = type(index) is not int
        if type(index) is not int:
            index = choice["index"] = at
        if not 0 <= index < MAX_CHOICES:
            raise unreadable()
        state = self._choices.get(index)
        if state is None:
            state = self._choices[index] = ChoiceState(self._stamp.id, forced=self._forced)
        over = state.finished
        changed |= state.repair(choice)
        delta = choice["delta"]
        for key in _TEXT_KEYS:
            if isinstance(text := delta.get(key), str):
                self.output_bytes += utf8_size(text)
        for call in delta.get("tool_calls") or ():
            function = call.get("function")
            if isinstance(function, dict):
                self.output_bytes += utf8_size(function.get("arguments") or "")
        return not over or any(value for value in delta.values()), changed

    def _identify(self, chunk: dict[str, Any]) -> bool:
        """Gives each chunk the id, model and time of the first; tells whether it had others."""
        identity = self._identity
        changed = False
        if not identity:
            model, created, chunk_id = chunk.get("model"), chunk.get("created"), chunk.get("id")
            self.model = model if isinstance(model, str) and model else None
            identity["id"] = chunk_id if isinstance(chunk_id, str) and chunk_id else self._stamp.id
            identity["object"] = _CHUNK
            identity["created"] = created if type(created) is int and created > 0 else self._stamp.created
            identity["model"] = self.model or self._alias
        for key, value in identity.items():
            if chunk.get(key) != value:
                chunk[key] = value
                changed = True
        tier = chunk.get("service_tier")
        if isinstance(tier, str) and tier:
            self.service_tier = tier
        if tier is not None and tier not in SERVICE_TIERS:
            del chunk["service_tier"]
            changed = True
        return changed

    def _is_ours(self, chunk: dict[str, Any]) -> bool:
        """Whether nothing in a chunk's envelope would have to be changed."""
        return (
            all(chunk.get(key) == value for key, value in self._identity.items())
            and chunk.get("service_tier") in (None, *SERVICE_TIERS)
            and (self._obfuscated or "obfuscation" not in chunk)
        )

    def _take_usage(self, chunk: dict[str, Any], block: bytes) -> bool:
        """Keeps what the chunk tells of usage for the end and takes it out of the chunk."""
        raw = chunk.get("usage") or _usage_elsewhere(chunk)
        if raw is not None and (told := read_usage(raw)) is not None:
            usage, right = judged(told)
            self.usage = self._told_usage = usage
            self._told = raw
            right = right and chunk.get("choices") == [] and self._is_ours(chunk)
            self._usage_block = block if right and _is_simple(block) else b""
        if chunk.get("usage") is None:
            return False
        del chunk["usage"]
        return True


def is_forced(chat: Chat) -> bool:
    """Whether the caller made the model call a tool; OpenAI then finishes with `stop`."""
    choice = chat.head.tool_choice
    return isinstance(choice, dict) or choice == "required"


def _usage_elsewhere(chunk: dict[str, Any]) -> Any:
    """Usage where Groq (`x_groq`) and Moonshot (the choice) put it."""
    choices = chunk.get("choices")
    for holder in (chunk.get("x_groq"), *(choices if isinstance(choices, list) else ())):
        if isinstance(holder, dict) and holder.get("usage"):
            return holder["usage"]
    return None


def _is_simple(block: bytes) -> bool:
    """Whether an event is one `data: {…}` line and nothing else."""
    return block.startswith(b"data: {") and block.count(b"\n") == 2


def _only_member(choice: dict[str, Any]) -> tuple[str, Any] | None:
    """The one member of its delta that a choice says anything by; None where there are more, or it ends."""
    said = [(key, value) for key, value in choice["delta"].items() if value is not None]
    if len(said) != 1 or choice["finish_reason"] is not None or choice.get("logprobs") is not None:
        return None
    return said[0]


def _only_arguments(calls: list[dict[str, Any]]) -> bool:
    """Whether these go on with the arguments of one call and say nothing else."""
    if len(calls) != 1 or calls[0].keys() != _GOES_ON:
        return False
    function = calls[0]["function"]
    return isinstance(function, dict) and function.keys() == {"arguments"} and bool(function["arguments"])


def _raise_error(name: str | None, chunk: dict[str, Any], choices: object) -> None:
    told = chunk.get("error")
    for choice in choices if isinstance(choices, list) else ():
        told = told or (choice.get("error") if isinstance(choice, dict) else None)
    if told or name == "error":
        raise failure(200, {}, read_problem({"error": told} if told else chunk))


def _framed(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % _encode(chunk)
