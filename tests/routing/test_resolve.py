"""Names that callers send."""

from __future__ import annotations

import dataclasses

import pytest
from made_catalogs import NOW, deployment, snapshot, tier

from gateway.errors import CallerError, Kind
from gateway.routing.resolve import resolve
from gateway.types import Capability, Options

CATALOG = snapshot(
    tier(
        "fast",
        deployment("openai/gpt-5-mini"),
        deployment("anthropic/claude-haiku-4-5"),
        deployment("openai/off", model={"status": "disabled"}),
        deployment("openai/new", model={"status": "pending"}),
        deployment("openai/gone", model={"status": "retired", "retires_at": NOW}),
    )
)


@pytest.mark.parametrize(
    ("name", "kind", "preferred"),
    [
        ("fast", "tier", None),
        ("fast@anthropic", "tier", "anthropic"),
        ("claude-haiku-4-5", "model", None),
        ("anthropic/claude-haiku-4-5", "deployment", None),
    ],
)
def test_names_resolve(name: str, kind: str, preferred: str | None) -> None:
    """A tier, a tier with a preferred provider, a model, a deployment."""
    target = resolve(CATALOG, name, Options())
    assert (target.kind, target.prefer_provider) == (kind, preferred)


def test_an_unknown_name_is_told_its_neighbours() -> None:
    """A typo is answered with what was probably meant."""
    with pytest.raises(CallerError, match="The model 'gpt-5-mimi' does not exist here") as error:
        resolve(CATALOG, "gpt-5-mimi", Options())
    assert (error.value.kind, error.value.status, error.value.code) == (Kind.UNKNOWN_MODEL, 404, "model_not_found")
    assert error.value.details["nearest"][0] == "gpt-5-mini"
    assert "Did you mean 'gpt-5-mini'" in error.value.message


def test_a_name_like_nothing_is_told_the_tiers() -> None:
    """Without a neighbour, the tiers are named; a very long name is not repeated."""
    with pytest.raises(CallerError, match="Tiers: fast") as error:
        resolve(CATALOG, "§" * 512, Options())
    assert len(error.value.message) < 300


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("off", Kind.MODEL_DISABLED, "The model 'off' is disabled: the gateway's operators switched it off."),
        ("new", Kind.MODEL_DISABLED, "The model 'new' is pending: it is not approved yet."),
        ("gone", Kind.UNKNOWN_MODEL, "The model 'gone' was retired on 2026-09-21 and has no replacement here."),
    ],
)
def test_models_out_of_use_are_refused_with_the_reason(name: str, kind: Kind, message: str) -> None:
    """Known, but not served."""
    with pytest.raises(CallerError) as error:
        resolve(CATALOG, name, Options())
    assert (error.value.kind, error.value.message) == (kind, message)


def test_a_preferred_provider_must_exist() -> None:
    """A wish that can never come true is a typo."""
    with pytest.raises(
        CallerError, match=r"Unknown provider 'antropic'\. Providers of this gateway: anthropic, openai"
    ):
        resolve(CATALOG, "fast", Options(prefer_provider="antropic"))


def test_only_previews_find_what_is_not_approved() -> None:
    """By `provider/id`; for everybody else there is no such name."""
    waiting = dataclasses.replace(CATALOG, previews={"openai/gpt-9": CATALOG.targets["openai/gpt-5-mini"]})
    assert resolve(waiting, "openai/gpt-9", Options(), previews=True).name == "openai/gpt-5-mini"
    with pytest.raises(CallerError, match="does not exist here"):
        resolve(waiting, "openai/gpt-9", Options())


@pytest.mark.parametrize("name", ["gpt-5-mini", "openai/gpt-5-mini", "off", "gone"])
def test_a_trial_asks_a_model_whatever_the_catalog_says_of_it(name: str) -> None:
    """As if it were in use and could do everything; the catalog itself stays as it is."""
    target = resolve(CATALOG, f"trial:{name}", Options(), previews=True)
    (found,) = target.tier.deployments
    assert found.model.status == "enabled"
    assert all(found.capabilities & capability.bit for capability in Capability)
    assert CATALOG.deployments[found.name].capabilities != found.capabilities


@pytest.mark.parametrize("name", ["trial:fast", "trial:nobody", "trial:", "trial:trial:gone"])
def test_there_is_no_trial_of_what_is_no_model(name: str) -> None:
    """A tier chooses; a trial must not."""
    with pytest.raises(CallerError, match="does not exist here"):
        resolve(CATALOG, name, Options(), previews=True)
