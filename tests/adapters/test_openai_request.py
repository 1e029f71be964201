"""Requests to OpenAI-like providers: the caller's bytes, changed only where a rule says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters import ADAPTERS
from adapters.openai_request import nine_characters
from gateway.chat import parse_chat
from gateway.types import Deployment
from tests.adapters.answering import HELLO, chat, deployment, streaming


def sent(adapter: str, target: Deployment | None = None, **members: Any) -> dict[str, Any]:
    """The upstream body of a request with these members."""
    body: dict[str, Any] = json.loads(ADAPTERS[adapter].request(chat(**members), target or deployment(adapter)))
    return body


def test_openai_gets_what_the_caller_wrote_byte_for_byte() -> None:
    """Odd spacing, escapes, number forms and unknown members survive; only the model changes."""
    body = (
        b'{ "model" : "fast","messages":[ {"role":"user","content":"Gr\\u00fc\xc3\x9fe \\/"} ],'
        b'"temperature":1.0e0, "unknown_member": {"b":1,"a":[1.50]}}'
    )
    assert ADAPTERS["openai"].request(parse_chat(body), deployment()) == (
        b'{"model":"upstream-1","messages":[ {"role":"user","content":"Gr\\u00fc\xc3\x9fe \\/"} ],'
        b'"temperature":1.0e0,"unknown_member":{"b":1,"a":[1.50]}}'
    )


@pytest.mark.parametrize("include_usage", [True, False])
def test_stream_usage_is_asked_for_whatever_the_caller_asked(include_usage: bool) -> None:
    """The attempt is charged by the usage chunk, so it is always asked for; padding is not."""
    request = streaming(include_usage=include_usage)
    assert json.loads(ADAPTERS["openai"].request(request, deployment()))["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }
    assert json.loads(ADAPTERS["xai"].request(request, deployment()))["stream_options"] == {"include_usage": True}


def test_members_that_only_openai_knows_stay_with_openai() -> None:
    """Another server behind the same adapter is not told of padding."""
    local = deployment("openai", "http://127.0.0.1:8000/v1")
    assert sent("openai", local, stream=True)["stream_options"] == {"include_usage": True}


def test_padding_is_left_on_for_a_caller_who_wants_it() -> None:
    """`include_obfuscation: true` goes upstream as asked."""
    body = sent("openai", stream=True, stream_options={"include_obfuscation": True})
    assert body["stream_options"] == {"include_obfuscation": True, "include_usage": True}


def test_stream_options_stay_away_where_they_would_be_refused() -> None:
    """Not to Mistral, not to a deployment that cannot take them, not without a stream."""
    old = deployment("azure", unsupported_params={"stream_options": "drop"})
    assert "stream_options" not in sent("mistral", stream=True)
    assert "stream_options" not in sent("azure", old, stream=True)
    assert "stream_options" not in sent("openai", stream_options={"include_usage": True})


def test_mistral_gets_its_own_words() -> None:
    """Renamed members, its word for a forced call, no bookkeeping members, `system` for `developer`."""
    body = sent(
        "mistral",
        seed=7,
        max_completion_tokens=9,
        tool_choice="required",
        user="u",
        store=True,
        messages=[{"role": "developer", "content": "Be brief."}, *HELLO],
    )
    assert body == {
        "model": "upstream-1",
        "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
        "random_seed": 7,
        "max_tokens": 9,
        "tool_choice": "any",
    }


def test_mistral_call_ids_keep_calls_and_results_together() -> None:
    """A foreign id becomes nine letters and digits, the same in the call and in its result; a fitting one stays."""
    calls = [
        {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for call_id in ("call_abcdefghijkl", "D681PevKs")
    ]
    history = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": calls},
        *[{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in calls],
    ]
    _, asked, *results = sent("mistral", messages=history)["messages"]
    ids = [call["id"] for call in asked["tool_calls"]]
    assert ids == [result["tool_call_id"] for result in results]
    assert ids[1] == "D681PevKs"
    assert len(ids[0]) == 9
    assert ids[0].isalnum()


def test_shortened_ids_are_stable_and_apart() -> None:
    """The same id always gives the same nine characters, different ids different ones."""
    ids = [f"call_{number}" for number in range(1000)]
    assert len({nine_characters(call_id) for call_id in ids}) == 1000
    assert nine_characters("call_1") == nine_characters("call_1")


@pytest.mark.parametrize("adapter", ["openai", "azure", "groq", "cerebras", "mistral"])
def test_reasoning_in_the_history_is_left_out_where_it_is_refused(adapter: str) -> None:
    """What we gave as reasoning may come back with the history; strict providers refuse it."""
    answer = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm.", "reasoning_details": []}
    assert sent(adapter, messages=[*HELLO, answer])["messages"][1] == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize("adapter", ["openrouter", "deepseek", "xai"])
def test_reasoning_in_the_history_goes_back_where_it_is_wanted(adapter: str) -> None:
    """Providers that take their reasoning back get it back."""
    answer = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."}
    assert sent(adapter, messages=[*HELLO, answer])["messages"][1] == answer


def test_text_that_looks_like_a_member_is_left_alone() -> None:
    """A user who writes `"reasoning_content"` or `"developer"` in a message is quoted as written."""
    message = {"role": "user", "content": 'my "developer" set "reasoning_content" and "tool_calls"'}
    assert sent("mistral", messages=[message])["messages"] == [message]


def test_renaming_yields_to_the_name_that_stands_already() -> None:
    """Where both names are given, the provider's own wins."""
    assert sent("deepseek", max_tokens=5, max_completion_tokens=9)["max_tokens"] == 5
