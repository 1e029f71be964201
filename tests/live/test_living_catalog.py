"""The catalog of running gateways: edits, publications, discovery, trials; by the command as an operator would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import eventually
from running import ADMIN_TOKEN, APP_KEY, ROOT, RunningGateway, running_gateway
from talk import CHAT, HELLO, Answer, Talk, admin

DOCUMENT = """\
# Kept by hand.
providers:
  sandbox: {adapter: sandbox}                  # built in
models:
  small:
    capabilities: [text_input, text_output, streaming, system_messages, function_calling]
    prices:
      - from: 2026-01-01
        usd_per_mtok: {input: "0.10", output: "0.40"}
        source: nominal
        checked: 2026-11-21
    deployments:
      - {provider: sandbox, id: sandbox-small}
tiers:
  fast: {models: [small]}
"""
TWO_ENTRIES = """\
  big:
    capabilities: [text_input, text_output]
    deployments: [{provider: sandbox, id: sandbox-large}]
tiers:
  smart: {models: [big]}
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(DOCUMENT)
    return path


@pytest.fixture
def fleet(tmp_path: Path, catalog: Path) -> Iterator[RunningGateway]:
    """Two processes on one port, whose catalog lives in the store."""
    env = {"TIERGATE_CATALOG_IN": "store"}
    with running_gateway(tmp_path / "fleet", catalog=catalog, env=env, workers=2) as gateway:
        yield gateway


@pytest.fixture
def alone(tmp_path: Path, catalog: Path) -> Iterator[RunningGateway]:
    """One process by its file."""
    with running_gateway(tmp_path / "alone", catalog=catalog) as gateway:
        yield gateway


def tiergate(gateway: RunningGateway, *words: str, status: int = 0) -> str:
    """Runs a command against the gateway; gives what it printed."""
    env = {
        "TIERGATE_URL": gateway.url,
        "TIERGATE_ADMIN_TOKEN": ADMIN_TOKEN,
        "PATH": os.environ["PATH"],
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "gateway.cli", *words]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def serves(gateway: RunningGateway, model: str, key: str = APP_KEY) -> bool:
    return ask(gateway, model, key).status == 200


def ask(gateway: RunningGateway, model: str, key: str = APP_KEY) -> Answer:
    with Talk(gateway, key) as talk:
        return talk.ask(CHAT, {"model": model, "messages": HELLO})


def processes(gateway: RunningGateway) -> list[str]:
    """The version that each process serves by, as health tells."""
    return [member["version"] for member in admin(gateway, "/health").body["processes"]]


def test_a_model_is_two_entries_and_no_restart(alone: RunningGateway, catalog: Path) -> None:
    """It is served soon after the file was saved."""
    assert not serves(alone, "smart")
    catalog.write_text(DOCUMENT.replace("tiers:\n", TWO_ENTRIES))
    eventually(lambda: serves(alone, "smart"))
    assert serves(alone, "fast")


def test_a_publication_reaches_every_process(fleet: RunningGateway, tmp_path: Path) -> None:
    """Also on the way back; the history tells who, and health which process serves by which version."""
    first = set(processes(fleet)).pop()
    eventually(lambda: processes(fleet) == [first] * 2)
    new = tmp_path / "new.yaml"
    new.write_text(DOCUMENT.replace("tiers:\n", TWO_ENTRIES))
    assert "model big: added" in tiergate(fleet, "catalog", "diff", str(new))
    said = tiergate(fleet, "catalog", "publish", str(new), "--note", "a big one")
    version = said.split()[1] if said.startswith("catalog") else said.splitlines()[-1].split()[1]
    eventually(lambda: processes(fleet) == [version] * 2)
    assert all(serves(fleet, "smart") for _ in range(10))
    assert "a big one" in tiergate(fleet, "catalog", "history")
    tiergate(fleet, "catalog", "rollback", first)
    eventually(lambda: processes(fleet) == [first] * 2)
    assert not serves(fleet, "smart")


def test_a_bad_publication_reaches_none(fleet: RunningGateway, tmp_path: Path) -> None:
    """It is told with line and fix, and everything serves on."""
    before = set(processes(fleet))
    bad = tmp_path / "bad.yaml"
    bad.write_text(DOCUMENT.replace("[small]", "[smal]"))
    said = tiergate(fleet, "catalog", "publish", str(bad), status=1)
    assert "tiers.fast.models[0]: unknown model 'smal' — did you mean 'small'?" in said
    assert set(processes(fleet)) == before
    assert serves(fleet, "fast")


def test_a_discovered_model_is_tried_by_admins_and_approved(alone: RunningGateway, catalog: Path) -> None:
    """Apps cannot reach it before; afterwards it is in the document, whose comments are kept."""
    assert "2 more" not in tiergate(alone, "models", "discover", "--provider", "sandbox")
    waiting = tiergate(alone, "models", "waiting")
    assert "sandbox/sandbox-large" in waiting
    assert ask(alone, "sandbox/sandbox-large").error["code"] == "model_not_found"
    assert serves(alone, "sandbox/sandbox-large", ADMIN_TOKEN)
    assert "missing" in tiergate(alone, "models", "approve", "sandbox/sandbox-large", status=1)
    facts = ["--capability", "text_input", "--capability", "text_output", "--input-price", "2", "--output-price", "8"]
    tiergate(alone, "models", "approve", "sandbox/sandbox-large", *facts)
    assert serves(alone, "sandbox-large")
    written = catalog.read_text()
    assert written.startswith("# Kept by hand.\n")
    assert "# built in" in written
    assert '{input: "2", output: "8"}' in written


def test_a_trial_shows_what_works_against_what_is_claimed(alone: RunningGateway) -> None:
    """Capabilities that the catalog does not claim are tried all the same, for admins only; every call is booked."""
    rows = {}
    for line in tiergate(alone, "models", "test", "small").splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells:
            rows[cells[0]] = cells[1:3]
    assert rows == {
        "plain": ["yes", "yes"],
        "stream": ["yes", "yes"],
        "tools": ["yes", "yes"],
        "json_schema": ["no", "yes"],
        "vision": ["no", "yes"],
    }
    assert ask(alone, "trial:small").error["code"] == "model_not_found"
    eventually(lambda: admin(alone, "/report?by=model").body["total"]["attempts"] == 5)


def test_a_disabled_model_is_refused_with_the_reason(alone: RunningGateway) -> None:
    """In force as soon as the command has ended."""
    tiergate(alone, "models", "disable", "small", "--reason", "too dear")
    assert "too dear" in ask(alone, "small").error["message"]
    tiergate(alone, "models", "enable", "small")
    assert serves(alone, "small")
