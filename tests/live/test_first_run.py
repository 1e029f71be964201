"""A fresh installation with the shipped catalog and no provider's key: everything works, offline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from conformance import Conformance
from pydantic import BaseModel
from running import APP_KEY, RunningGateway, running_gateway

HELLO: Any = [{"role": "user", "content": "Hello"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


class Place(BaseModel):
    """What the app wants filled."""

    name: str
    population: int


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    cloud = {name: "" for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))}
    with running_gateway(tmp_path_factory.mktemp("fresh"), env=cloud) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(fresh: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=fresh.base_url, api_key=APP_KEY, max_retries=0, timeout=20) as made:
        yield made


@pytest.mark.parametrize("tier", ["fast", "smart", "reasoning", "sandbox"])
def test_every_tier_answers(client: openai.OpenAI, tier: str, conforms: Conformance) -> None:
    """The sandbox stands in for providers without a key, and the headers say so."""
    raw = client.chat.completions.with_raw_response.create(model=tier, messages=HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert raw.headers["x-gateway-deployment"].startswith("sandbox/")
    conforms.chat(answer.to_dict())


@pytest.mark.parametrize("tier", ["fast", "smart", "reasoning"])
def test_every_tier_streams(client: openai.OpenAI, tier: str, conforms: Conformance) -> None:
    """Streams too, with usage where it is asked for."""
    request: Any = {"model": tier, "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(**request) as stream:
        chunks = list(stream)
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 0
    conforms.stream([c.to_dict() for c in chunks], request)


def test_tools(client: openai.OpenAI) -> None:
    """A forced tool is called with arguments that fit its schema."""
    answer = client.chat.completions.create(model="fast", messages=HELLO, tools=[TOOL], tool_choice="required")
    calls = answer.choices[0].message.tool_calls
    assert calls is not None and calls[0].type == "function"
    assert calls[0].function.name == "weather"


def test_structured_output(client: openai.OpenAI) -> None:
    """`.parse()` gets an instance of the app's type."""
    answer = client.chat.completions.parse(model="fast", messages=HELLO, response_format=Place)
    assert isinstance(answer.choices[0].message.parsed, Place)


def test_models(client: openai.OpenAI, conforms: Conformance) -> None:
    """All that the catalog offers is listed, and what cannot be used says why."""
    listing = client.models.with_raw_response.list().http_response.json()
    conforms.models(listing)
    rows = {row["id"]: row for row in listing["data"]}
    assert rows["sandbox-small"]["available"]
    assert not rows["claude-haiku-5-5"]["available"]
    assert any("ANTHROPIC_API_KEY" in reason for reason in rows["claude-haiku-5-5"]["unavailable"].values())


def test_a_model_without_a_key(client: openai.OpenAI) -> None:
    """Asking for it by name says what an operator has to do, and that trying again is vain."""
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="claude-haiku-5-5", messages=HELLO)
    assert (raised.value.status_code, raised.value.code) == (503, "no_usable_deployment")
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert "ANTHROPIC_API_KEY" in raised.value.message


def test_an_old_name(client: openai.OpenAI) -> None:
    """Hard-coded names of earlier days are aliases of tiers."""
    raw = client.chat.completions.with_raw_response.create(model="gpt-4", messages=HELLO)
    assert raw.headers["x-gateway-tier"] == "smart"
