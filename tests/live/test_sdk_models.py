"""OpenAI's SDK, unchanged: the model list, and the built-in sandbox."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from conformance import Conformance
from running import RunningGateway
from talk import key_with

HELLO: Any = [{"role": "user", "content": "Hello"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


def test_the_list_has_tiers_and_models(client: openai.OpenAI, conforms: Conformance) -> None:
    """Every name that may be asked for is listed once, with what the catalog says of it."""
    models = {model.id: model for model in client.models.list()}
    assert {"sandbox", "claude", "sandbox-model", "claude-model"} <= set(models)
    extra = models["claude-model"].model_extra
    assert extra is not None
    assert "function_calling" in extra["capabilities"]
    assert extra["deployments"][0]["usd_per_mtok"] == {"input": "1", "output": "2"}
    listing = client.models.with_raw_response.list().http_response.json()
    conforms.models(listing)
    assert len(models) == len(listing["data"])


@pytest.mark.parametrize("name", ["sandbox", "sandbox-model", "gpt-4o"])
def test_one_model(client: openai.OpenAI, name: str) -> None:
    """A tier, a model or an alias can be looked up by the name that apps send."""
    model = client.models.retrieve(name)
    assert (model.id, model.object) == (name, "model")


def test_an_unknown_model(client: openai.OpenAI) -> None:
    """404 with the nearest names, in the words in which it is refused."""
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("sandbox-modle")
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="sandbox-modle", messages=HELLO)
    assert "Did you mean 'sandbox-model'" in raised.value.message
    assert raised.value.body["message"] == refused.value.body["message"]  # type: ignore[index]  # an object


LIMITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a tier": ({"tiers": ["sandbox"]}, ["sandbox", "sandbox-model"]),
    "a tier and a model besides": (
        {"tiers": ["sandbox"], "models": ["sandbox-model", "claude-model"]},
        ["sandbox", "sandbox-model", "claude-model"],
    ),
    "models": (
        {"models": ["sandbox-model", "claude-model"]},
        ["claude", "sandbox", "sandbox-model", "claude-model"],
    ),
    "a tier, but none of its models": ({"tiers": ["sandbox"], "models": ["claude-model"]}, ["claude-model"]),
    "a tier, with a model of another tier denied": (
        {"tiers": ["sandbox"], "denied_models": ["gemini-model"]},
        ["sandbox", "sandbox-model"],
    ),
    "a tier whose model is denied": (
        {"tiers": ["sandbox", "claude"], "denied_models": ["claude-model"]},
        ["sandbox", "sandbox-model"],
    ),
}


@pytest.mark.parametrize("name", list(LIMITS))
def test_a_limited_key_sees_what_it_may_use(client: openai.OpenAI, gateway: RunningGateway, name: str) -> None:
    """Each name that it may ask for is listed and can be looked up, and no other is shown to it."""
    limits, usable = LIMITS[name]
    limited = client.with_options(api_key=key_with(gateway, **limits))
    assert sorted(model.id for model in limited.models.list()) == sorted(usable)
    for model in ("sandbox", "claude", "sandbox-model", "claude-model"):
        if model in usable:
            assert limited.models.retrieve(model).id == model
        else:
            with pytest.raises(openai.NotFoundError) as raised:
                limited.models.retrieve(model)
            assert raised.value.message.count(model) == 1, "it is not proposed instead of itself"
    for model in {"sandbox", "claude", "sandbox-model", "claude-model"} - set(usable):
        with pytest.raises(openai.PermissionDeniedError):
            limited.chat.completions.create(model=model, messages=HELLO)
    for model in {"sandbox", "sandbox-model"} & set(usable):
        assert limited.chat.completions.create(model=model, messages=HELLO).model == "sandbox-small"


def test_the_sandbox_answers(client: openai.OpenAI, conforms: Conformance) -> None:
    """The built-in provider answers the same each time, under its old name as well."""
    said = [client.chat.completions.create(model=name, messages=HELLO) for name in ("sandbox", "gpt-4o")]
    assert [a.choices[0].message.content for a in said] == ["You said: Hello", "You said: Hello"]
    conforms.chat(said[0].to_dict())


def test_the_sandbox_streams_what_it_answers(client: openai.OpenAI, conforms: Conformance) -> None:
    """Streamed and buffered, one request has one text and one usage."""
    request: Any = {"model": "sandbox", "messages": HELLO}
    whole = client.chat.completions.create(**request)
    streamed: Any = {**request, "stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(**streamed) as stream:
        chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert whole.usage is not None and chunks[-1].usage is not None
    assert chunks[-1].usage.to_dict() == whole.usage.to_dict()
    conforms.stream([c.to_dict() for c in chunks], streamed)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_the_sandbox_calls_tools(client: openai.OpenAI, choice: Any, conforms: Conformance) -> None:
    """A forced tool is called with arguments of its schema."""
    request: Any = {"messages": HELLO, "tools": [TOOL], "tool_choice": choice}
    answer = client.chat.completions.create(model="sandbox", **request)
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    arguments = json.loads(calls[0].function.arguments)
    assert set(arguments) == {"a", "b"}
    assert all(isinstance(value, int) for value in arguments.values())
    conforms.chat(answer.to_dict(), request)


FAILURES: dict[str, type[openai.APIStatusError]] = {
    "400": openai.BadRequestError,
    "401": openai.InternalServerError,
    "429": openai.RateLimitError,
    "500": openai.InternalServerError,
    "503": openai.InternalServerError,
    "context_length_exceeded": openai.BadRequestError,
}


@pytest.mark.parametrize("error", list(FAILURES))
def test_the_sandbox_fails_on_demand(client: openai.OpenAI, error: str) -> None:
    """Apps can try their error handling without a provider. A refused gateway credential is not the app's 401."""
    place = list(FAILURES).index(error)
    with pytest.raises(FAILURES[error]) as raised:
        client.chat.completions.create(
            model=f"failing{place}", messages=HELLO, metadata={"sandbox": f"error={error},retry_after=0"}
        )
    assert raised.value.status_code != 401
