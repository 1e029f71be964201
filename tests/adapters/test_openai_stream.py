"""Streams in OpenAI's dialect: untouched where they are right, put right where they are not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import ADAPTERS, openai_stream
from adapters.base import ChatStream
from gateway.chat import Chat
from gateway.errors import Kind
from gateway.types import Usage
from tests.adapters.answering import STAMP, chat, chunk, chunks, cuts, fed, said, sse, streaming

DONE = "data: [DONE]"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
TOLD = chunk(choices=[], usage=USAGE)
CLEAN: list[Any] = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    *[chunk({"content": word}) for word in ("Grüße", ' "quoted"', " \n\n data: x", "\\", "☀", "")],
    chunk({}, "stop"),
    TOLD,
    DONE,
]


def opened(request: Chat | None = None) -> ChatStream:
    return ADAPTERS["openai"].stream(request or streaming(), STAMP)


def relayed(*events: Any, request: Chat | None = None) -> bytes:
    """What the caller gets of these events, `[DONE]` added."""
    return fed(opened(request), [sse(*events, DONE)])


def call(index: int | None = 0, **members: Any) -> dict[str, Any]:
    """A delta of one tool call; `name` and `arguments` go into its function."""
    function = {key: members.pop(key) for key in ("name", "arguments") if key in members}
    return {"tool_calls": [{**({} if index is None else {"index": index}), **members, "function": function}]}


def test_well_behaved_stream_passes_byte_for_byte_however_it_is_cut() -> None:
    """Nothing is re-encoded, whatever the reads: the caller gets the provider's own bytes."""
    body = sse(*CLEAN)
    for pieces in cuts(body):
        stream = opened()
        assert fed(stream, pieces) == body
        assert stream.usage == Usage(input=3, output=2)


def test_events_go_on_with_the_read_that_completes_them() -> None:
    """No event waits for the next one, and none goes out in part."""
    stream = opened()
    events = [sse(event) for event in CLEAN[:-2]]
    for event in events:
        assert stream.feed(event[:-1]) == b""
        assert stream.feed(event[-1:]) == event


def test_usage_chunk_is_kept_back_until_the_end() -> None:
    """The caller sees usage and `[DONE]` only after the attempt could be settled."""
    stream = opened()
    out = stream.feed(sse(*CLEAN))
    assert b"usage" not in out
    assert b"[DONE]" not in out
    assert stream.finished
    assert stream.end() == sse(TOLD, DONE)


def test_estimate_of_the_gateway_takes_the_place_of_missing_usage() -> None:
    """Usage set before the end is what the caller is told."""
    stream = opened()
    stream.feed(sse(*CLEAN[:-2], DONE))
    assert stream.usage is None
    stream.usage = Usage(input=7, output=1)
    assert chunks(stream.end())[-1]["usage"]["total_tokens"] == 8


@pytest.mark.parametrize(
    "members",
    [
        {"usage": USAGE},
        {"x_groq": {"id": "r", "usage": USAGE}},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]},
    ],
)
def test_usage_is_found_wherever_it_stands(members: dict[str, Any]) -> None:
    """On the finish chunk, in a provider's own member, in the choice: it is told once, at the end."""
    stream = opened()
    out = fed(stream, [sse(CLEAN[0], chunk({}, "stop", **members), DONE)])
    assert stream.usage == Usage(input=3, output=2)
    assert chunks(out)[-1]["usage"] == USAGE
    assert all(not event.get("usage") for event in chunks(out)[:-1])


@pytest.mark.parametrize("nulls", [{"tool_calls": None}, {"function_call": None, "refusal": None}])
def test_nulls_beside_the_text_change_nothing(nulls: dict[str, Any]) -> None:
    """Members that are null may stay, before and after the text."""
    body = sse(
        chunk({"role": "assistant", "content": ""}),
        *[chunk({"content": word, **nulls}) for word in "abc"],
        *[chunk({**nulls, "reasoning_content": word}) for word in "def"],
        chunk(nulls, "stop"),
        TOLD,
        DONE,
    )
    for pieces in cuts(body):
        assert fed(opened(), pieces) == body


@pytest.mark.parametrize("asked", [True, False])
def test_padding_reaches_only_those_who_asked_for_it(asked: bool) -> None:
    """`obfuscation` is stripped unless the caller wanted it."""
    events = [chunk({"role": "assistant", "content": "a"}, obfuscation="x1"), chunk({"content": "b"}, obfuscation="y")]
    options = {"stream_options": {"include_obfuscation": True}} if asked else {}
    stream = opened(chat(stream=True, **options))
    out = stream.feed(sse(*events))
    assert (b"obfuscation" in out) is asked


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_and_comments_do_not_matter(line_end: str) -> None:
    """CRLF, CR and comments come out as plain events."""
    body = sse(": keep-alive", *CLEAN[:3], ": keep-alive", *CLEAN[3:], end=line_end)
    for pieces in cuts(body):
        assert fed(opened(), pieces) == sse(*CLEAN)


def test_envelope_is_that_of_the_first_chunk() -> None:
    """id, model, created and object do not change within a stream, and are never empty."""
    out = relayed(
        {"choices": [], "id": "", "model": "", "created": 0, "object": "", "prompt_filter_results": [1]},
        chunk({"role": "assistant", "content": "a"}, id="", created=0),
        chunk({"content": "b"}, id="other", created=8, model="m2"),
        chunk({}, "stop"),
    )
    first, *rest = chunks(out)
    assert first["id"] == STAMP.id
    assert first["prompt_filter_results"] == [1]
    assert {(event["id"], event["created"], event["model"], event["object"]) for event in rest} == {
        (STAMP.id, STAMP.created, "example-1", "chat.completion.chunk")
    }


def test_finish_comes_once_and_nothing_is_said_after_it() -> None:
    """Repeated finish reasons, empty deltas and text after the end are left out; what must be replayed is not."""
    events = chunks(
        relayed(
            chunk({"role": "assistant", "content": "a"}, "stop"),
            chunk({"role": "assistant", "content": ""}, "stop", usage=USAGE),
            chunk({"content": "late"}),
            chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}),
        )
    )
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == ["stop", None]
    assert events[1]["choices"][0]["delta"] == {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}


@pytest.mark.parametrize(
    ("told", "tools", "given"),
    [
        ("stop", True, "tool_calls"),
        ("tool_calls", False, "stop"),
        ("model_length", False, "length"),
        ("eos", False, "stop"),
        ("", False, "stop"),
        ("", True, "tool_calls"),
        ("content_filter", False, "content_filter"),
    ],
)
def test_finish_reasons_are_openais(told: str, tools: bool, given: str) -> None:
    """Other words, missing words and words that do not fit the deltas are put right."""
    delta = call(id="c1", type="function", name="f", arguments="{}") if tools else {"content": "a"}
    assert said(relayed(chunk(delta), chunk({}, told)))["finish_reason"] == given


def test_forced_call_may_finish_with_stop() -> None:
    """OpenAI says `stop` where the caller forced the call, and so do we."""
    forcing = streaming(tool_choice={"type": "function", "function": {"name": "f"}})
    delta = call(id="c1", type="function", name="f", arguments="{}")
    assert said(relayed(chunk(delta), chunk({}, "stop"), request=forcing))["finish_reason"] == "stop"


F, G = {"name": "f", "arguments": "{}"}, {"name": "g", "arguments": "{}"}
ONE, TWO = [["f", "{}"]], [["f", "{}"], ["g", "{}"]]


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        pytest.param(
            [call(0, id="a", type="function", name="f", arguments=""), call(0, arguments="{"), call(0, arguments="}")],
            ONE,
            id="as OpenAI",
        ),
        pytest.param([call(3, id="a", name="f", arguments="{"), call(3, arguments="}")], ONE, id="index from 3"),
        pytest.param([call(None, id="a", **F), call(None, id="b", **G)], TWO, id="no index"),
        pytest.param([call(0, id="a", **F), call(0, id="b", **G)], TWO, id="index repeats"),
        pytest.param(
            [call(0, id="a", name="f", arguments="{"), call(0, id="a", name="f", arguments="}")], ONE, id="name repeats"
        ),
        pytest.param([call(0, id="a", name="f", arguments={})], ONE, id="arguments an object"),
        pytest.param([call(0, id="a", name="f", arguments="null")], ONE, id="arguments null"),
        pytest.param([call(0, id="a", name="f")], ONE, id="no arguments"),
        pytest.param([call(None, id="", **F), call(None, id="", **G)], TWO, id="no id"),
        pytest.param([call(0, id="a", name="f"), call(0, id="other", arguments="{}")], ONE, id="id changes"),
    ],
)
def test_tool_calls_are_numbered_and_whole(deltas: list[dict[str, Any]], calls: list[list[str]]) -> None:
    """However a provider counts and cuts its calls, a client can put them together."""
    out = relayed(*map(chunk, deltas), chunk({}, "tool_calls"))
    assert said(out)["calls"] == calls
    choices = [choice for event in chunks(out) for choice in event["choices"]]
    begun = [part for choice in choices for part in choice["delta"].get("tool_calls", []) if "id" in part]
    assert [part["index"] for part in begun] == list(range(len(calls)))
    assert all(part["type"] == "function" and part["id"] for part in begun)
    assert len({part["id"] for part in begun}) == len(calls)


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "Upstream gone", "code": 502}},
        chunk({"content": ""}, error={"message": "Upstream gone", "code": 502}),
        chunk(choices=[{"index": 0, "delta": {}, "error": {"message": "Upstream gone", "code": 502}}]),
        'event: error\ndata: {"error": {"message": "Upstream gone"}}',
        chunk({"content": ""}, "error"),
        "data: {cut",
        "data: 7",
        chunk(choices=[7]),
        chunk(choices=[{"index": 4_000_000_000, "delta": {}}]),
    ],
)
def test_error_within_a_stream_ends_it(event: Any) -> None:
    """What came before is given, then nothing: no finish reason, no `[DONE]`, and the attempt counts as billed."""
    stream = opened()
    good = sse(*CLEAN[:3])
    assert fed(stream, [good + sse(event, chunk({"content": "after"}), DONE)]) == good
    assert stream.failure is not None
    assert stream.failure.kind is Kind.BROKEN
    assert stream.failure.billed


@pytest.mark.parametrize("body", [b"", b"data: [DONE]\n\n", b": ping\n\n", b'{"choices": []}', sse(TOLD, DONE)])
def test_answer_without_content_is_a_failure_before_anything_went_out(body: bytes) -> None:
    """An empty 200 can still be served by another candidate."""
    stream = opened()
    assert fed(stream, [body]) == b""
    assert not stream.started
    assert stream.failure is not None


def test_error_without_framing_is_understood() -> None:
    """A server that answers with a plain JSON error, under status 200, is taken at its word."""
    body = b'{"error": {"message": "Slow down", "code": 429}}'
    stream = opened()
    for at in range(len(body)):
        stream.feed(body[at : at + 1])
    assert stream.failure is not None
    assert stream.failure.kind is Kind.RATE_LIMITED


def test_finish_reason_at_the_end_of_the_body_is_an_end_too() -> None:
    """Servers that forget `[DONE]` are complete once each choice has finished."""
    assert fed(opened(), [sse(*CLEAN[:-1])]) == sse(*CLEAN)


def test_last_event_without_its_blank_line_is_not_lost() -> None:
    """A body that ends right after `[DONE]` is complete."""
    assert fed(opened(), [sse(*CLEAN)[:-2]]) == sse(*CLEAN)


def test_choices_of_one_stream_are_kept_apart() -> None:
    """Role and finish reason are given once for each of n choices."""
    choices = [{"index": index, "delta": {"content": str(index)}, "finish_reason": "stop"} for index in (1, 0)]
    *events, _ = chunks(relayed(*[chunk(choices=[choice]) for choice in choices], TOLD, request=streaming(n=2)))
    assert [event["choices"][0]["index"] for event in events] == [1, 0]
    assert all(event["choices"][0]["delta"]["role"] == "assistant" for event in events)


def test_half_an_emoji_does_not_break_a_stream() -> None:
    """A surrogate pair cut between two deltas goes on as it came."""
    halves = [rf"data: {json.dumps(chunk({'content': 'X'})).replace('X', half)}" for half in (r"\ud83d", r"\ude00")]
    body = sse(CLEAN[0], *halves, *CLEAN[1:])
    assert fed(opened(), [body]) == body


def test_generated_bytes_are_counted_for_estimates() -> None:
    """Text, reasoning and arguments count in UTF-8 bytes, whichever way the events went."""
    words = [{"role": "assistant", "content": "ab"}, {"content": "ü"}, {"content": "cd"}, {"content": "ef"}]
    for pieces in cuts(sse(*map(chunk, words))):
        stream = opened()
        for piece in pieces:
            stream.feed(piece)
        assert stream.output_bytes == 8


MEMBERS = [
    *("id", "choices", "index", "delta", "message", "role", "content", "tool_calls", "function", "name", "arguments"),
    *("finish_reason", "usage", "error", "prompt_tokens", "completion_tokens", "reasoning", "logprobs", "x_groq"),
    *("service_tier", "text", "thinking", "type"),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.text(max_size=4)
    | st.sampled_from(["stop", "assistant", "error"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
CALLS = st.lists(
    st.fixed_dictionaries({}, optional={"index": JSON, "id": JSON, "function": JSON, "type": JSON}), max_size=3
)
CHOICES = st.lists(
    JSON
    | st.fixed_dictionaries({"delta": JSON | st.fixed_dictionaries({"tool_calls": CALLS})}, optional={"index": JSON}),
    max_size=3,
)


@given(
    st.lists(JSON | st.fixed_dictionaries({"choices": CHOICES}, optional={"usage": JSON, "error": JSON}), max_size=4)
)
def test_no_provider_can_break_the_stream(events: list[Any]) -> None:
    """Whatever JSON comes, the stream ends well or has a failure; nothing is raised."""
    stream = opened()
    out = fed(stream, [sse(*events)])
    assert (stream.failure is None) is out.endswith(b"data: [DONE]\n\n")


_TEXTS = st.sampled_from(["a", "", '"', "\\", '\\"', "}", '{"x":"y', "é", "\n", '"}}]},"finish_reason":null}]}'])
_DELTAS = st.one_of(
    st.builds(lambda text: chunk({"content": text}), _TEXTS),
    st.builds(lambda text: chunk({"reasoning_content": text}), _TEXTS),
    st.builds(lambda text, index: chunk(call(index, arguments=text)), _TEXTS, st.integers(0, 2)),
    st.builds(
        lambda index: chunk(call(index, id=f"c{index}", type="function", name="f", arguments="")), st.integers(0, 2)
    ),
    st.builds(
        lambda text, index: chunk(
            {"tool_calls": call(index, arguments=text)["tool_calls"] + call(index + 1, arguments=text)["tool_calls"]}
        ),
        _TEXTS,
        st.integers(0, 1),
    ),
    st.builds(
        lambda text: chunk(
            {
                "tool_calls": call(0, arguments=text)["tool_calls"]
                + [{"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": text}}]
            }
        ),
        _TEXTS,
    ),
    st.sampled_from([chunk({}, "stop"), chunk({}, "tool_calls"), TOLD]),
)


@given(st.lists(_DELTAS, max_size=12), st.data())
@settings(max_examples=400, deadline=None)
def test_templates_change_nothing(events: list[Any], data: st.DataObject) -> None:
    """Whatever follows on what: the caller gets what it would if each event were looked at."""
    body = sse(CLEAN[0], *events, DONE)
    at = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=3)))
    pieces = [body[start:end] for start, end in zip([0, *at], [*at, len(body)], strict=True)]
    with_templates = fed(opened(), pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_stream, "learned", lambda *_, **__: None)
        assert with_templates == fed(opened(), pieces)


def test_arguments_of_calls_pass_untouched_however_they_are_cut() -> None:
    """Two calls, one after the other, whose arguments hold quotes, backslashes and what looks like an event's end."""
    pieces = ['{"', 'x":"', '\\\\"', "é\\n", '"}}]},"finish_reason":null}]}', '"}']
    begins = [chunk(call(n, id=f"c{n}", type="function", name="f", arguments="")) for n in range(2)]
    argued = [[chunk(call(n, arguments=piece)) for piece in pieces] for n in range(2)]
    body = sse(CLEAN[0], begins[0], *argued[0], begins[1], *argued[1], chunk({}, "tool_calls"), TOLD, DONE)
    for cut in cuts(body):
        assert fed(opened(), cut) == body


def test_arguments_that_begin_with_nothing_are_arguments_all_the_same() -> None:
    """A call is one without parameters only where no piece of its arguments held anything."""
    begins = chunk(call(id="c0", type="function", name="f", arguments=""))
    body = sse(
        CLEAN[0], begins, *[chunk(call(arguments=piece)) for piece in ("", "{", "}")], chunk({}, "tool_calls"), DONE
    )
    for cut in cuts(body):
        assert fed(opened(), cut) == body


def test_arguments_follow_their_call_where_a_later_one_takes_its_number() -> None:
    """A provider gives a second call the number of the first: what it says from then on belongs to the second."""
    begins = [chunk(call(0, id=f"c{n}", type="function", name="f", arguments="")) for n in range(2)]
    argued = [chunk(call(0, arguments=piece)) for piece in ("{", "}")]
    out = relayed(CLEAN[0], begins[0], *argued, begins[1], *argued, chunk({}, "tool_calls"))
    deltas = [event["choices"][0]["delta"] for event in chunks(out) if event["choices"]]
    numbers = [each["index"] for delta in deltas for each in delta.get("tool_calls") or ()]
    assert numbers == [0, 0, 0, 1, 1, 1]
