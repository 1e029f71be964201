"""One gateway process and one fake provider for all live tests; each test gets providers of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest
from fake_catalog import catalog_for
from fakes import FakeProvider
from running import APP_KEY, RunningGateway, free_port, running_gateway
from scenes import Scene

PATIENT, IMPATIENT = 250, 20
"""How many scenes there are of each sort; a test takes a fresh one, so that no breaker remembers another test."""


@pytest.fixture(scope="session")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="session")
def gateway(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """The gateway that most live tests share. `dead` is a tier whose first provider cannot be reached."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    tiers = {f"t{n}": [f"a{n}", f"b{n}"] for n in range(PATIENT)}
    tiers |= {f"i{n}": [f"c{n}", f"d{n}"] for n in range(IMPATIENT)}
    tiers |= {
        "drain": ["drained", "undrained"],
        "old": ["elder"],
        "mixed": ["claude2", "gemini2", "plain"],
        "picky": ["picky", "open"],
        "pickiest": [f"picky{n}" for n in range(20)],
        "dead": ["nobody", "somebody"],
        "claude": ["claude"],
        "gemini": ["gemini"],
    }
    sandboxes = ["sandbox", *(f"failing{n}" for n in range(6))]
    echoing = [f"echoing{n}" for n in range(11)]
    tiers |= {name: [name] for name in (*sandboxes, *echoing)}
    hurry = {"timeouts": {"first_byte_s": 0.4, "idle_s": 0.6, "progress_s": 0.8}}
    catalog = catalog_for(
        fake,
        folder / "catalog.yaml",
        tiers,
        providers={
            **{f"c{n}": hurry for n in range(IMPATIENT)},
            "nobody": {"base_url": f"http://127.0.0.1:{free_port()}/v1"},
            **{
                name: {"adapter": "anthropic", "api_key": "env:UPSTREAM_KEY", "base_url": f"{fake.url}/{name}/v1"}
                for name in ("claude", "claude2", *echoing)
            },
            **{
                name: {"adapter": "gemini", "api_key": "env:UPSTREAM_KEY", "base_url": f"{fake.url}/{name}/v1beta"}
                for name in ("gemini", "gemini2")
            },
            **{name: {"adapter": "sandbox", "base_url": None, "allow_private": None} for name in sandboxes},
        },
        models={
            "elder": {
                "status": "deprecated",
                "deprecated_on": "2026-09-01",
                "retires_on": "2027-01-31",
                "replacement": "claude-model",
            },
            "picky": {
                "unsupported_params": {"seed": "drop", "logit_bias": "reject", "max_tokens": "max_completion_tokens"},
                "param_ranges": {"temperature": [0, 1]},
            },
            **{f"picky{n}": {"unsupported_params": {"logit_bias": "reject"}} for n in range(20)},
            **{name: {"deployments": [{"provider": name, "id": "sandbox-small"}]} for name in sandboxes},
        },
        tier_fields={"drain": {"on_caller_left": {"action": "drain", "seconds": 5, "tokens": 50}}},
        aliases={"gpt-4o": "sandbox"},
        presets={"precise": {"temperature": 0.0}},
    )
    env = {"UPSTREAM_KEY": "upstream-key-0123456789", "TIERGATE_MAX_BODY_MB": "1"}
    with running_gateway(folder, catalog=catalog, env=env) as running:
        yield running


@pytest.fixture(scope="session")
def scene_numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture(scope="session")
def impatient_numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture
def scene(fake: FakeProvider, scene_numbers: Iterator[int]) -> Scene:
    number = next(scene_numbers)
    assert number < PATIENT, "raise PATIENT"
    return Scene(f"t{number}", f"a{number}", f"b{number}", fake)


@pytest.fixture
def impatient_scene(fake: FakeProvider, impatient_numbers: Iterator[int]) -> Scene:
    """Its first provider must begin within 0.4 s, never pause for longer than 0.6 s and never ping for 0.8 s."""
    number = next(impatient_numbers)
    assert number < IMPATIENT, "raise IMPATIENT"
    return Scene(f"i{number}", f"c{number}", f"d{number}", fake)


@pytest.fixture(scope="session")
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK, unchanged but for its address; it never retries."""
    with openai.OpenAI(base_url=gateway.base_url, api_key=APP_KEY, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
async def async_client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=APP_KEY, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def fake_drain(fake: FakeProvider) -> Scene:
    """The tier whose departed callers' streams are read on."""
    return Scene("drain", "drained", "undrained", fake)
