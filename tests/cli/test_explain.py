"""`tiergate explain`, from a catalog and from a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.cli.explain import explain

CATALOG = """\
providers:
  near: {adapter: openai, base_url: https://near.example/v1}
  far: {adapter: openai, base_url: https://far.example/v1}
models:
  small:
    capabilities: [text_input, text_output, streaming]
    prices:
      - {from: 2026-01-01, usd_per_mtok: {input: "1", output: "2"}, source: https://near.example, checked: 2026-11-20}
    deployments: [{provider: near, id: small-1}]
  large:
    capabilities: [text_input, text_output, streaming, function_calling]
    prices:
      - {from: 2026-01-01, usd_per_mtok: {input: "5", output: "9"}, source: https://far.example, checked: 2026-11-20}
    deployments: [{provider: far, id: large-1}]
tiers:
  fast: {models: [large, small], policy: [healthy, cheapest]}
"""
PLAN = {
    "alias": "fast",
    "tier": "lesser",
    "substituted": None,
    "candidates": [
        {
            "rank": 1,
            "deployment": "p/m",
            "provider": "p",
            "model": "m",
            "region": None,
            "price": None,
            "expected_usd": None,
        }
    ],
    "dropped": [{"deployment": "p/n", "rule": "healthy", "reason": "[bold]breaker open"}],
    "steps": ["healthy: dropped p/n"],
}
app = typer.Typer()
app.command()(explain)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Two models in one tier."""
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    return path


def run(*arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)


def planned(*arguments: object, given: str | None = None) -> dict[str, Any]:
    """The plan that the command prints as JSON."""
    result = run(*arguments, "--json", given=given)
    assert result.exit_code == 0, result.output
    plan: dict[str, Any] = msgspec.json.decode(result.stdout)
    return plan


def chosen(plan: dict[str, Any]) -> list[str]:
    return [candidate["deployment"] for candidate in plan["candidates"]]


def test_a_question_is_planned_from_the_catalog(catalog: Path) -> None:
    """No gateway and no network is needed."""
    assert chosen(planned("--model", "fast", "--message", "hi", "--catalog", catalog)) == ["near/small", "far/large"]


@pytest.mark.parametrize("from_input", [False, True])
def test_a_request_is_read_from_a_file_or_from_input(catalog: Path, tmp_path: Path, from_input: bool) -> None:
    """Its tools, options and model count as in live traffic."""
    tool = {"type": "function", "function": {"name": "f"}}
    messages = [{"role": "user", "content": "hi"}]
    body = msgspec.json.encode({"model": "fast", "messages": messages, "tools": [tool]}).decode()
    path = tmp_path / "request.json"
    path.write_text(body)
    plan = planned("-" if from_input else path, "--catalog", catalog, given=body if from_input else None)
    assert chosen(plan) == ["far/large"]
    assert plan["dropped"] == [{"deployment": "near/small", "rule": "capability", "reason": "lacks function_calling"}]


def test_an_outage_can_be_supposed(catalog: Path) -> None:
    """What would serve if a deployment were down."""
    plan = planned("--model", "fast", "--catalog", catalog, "--unhealthy", "near/small")
    assert chosen(plan) == ["far/large"]
    assert plan["dropped"][0]["reason"] == "breaker open"


def test_the_table_tells_the_same(catalog: Path) -> None:
    """Costs, reasons and steps."""
    result = run("--model", "fast", "--catalog", catalog, "--unhealthy", "near/small")
    assert result.exit_code == 0
    assert "Plan for fast" in result.stdout
    for said in ("far/large", "$0.002", "near/small", "breaker open", "cheapest: no change"):
        assert said in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "fasst"], "The model 'fasst' does not exist here. Did you mean 'fast'"),
        (["--model", "fast", "--unhealthy", "near/small", "--unhealthy", "far/large"], "No deployment for 'fast' can"),
    ],
)
def test_a_refusal_is_told_in_words(catalog: Path, arguments: list[str], message: str) -> None:
    """Exit 1 and the message that a caller would get."""
    result = run(*arguments, "--catalog", catalog)
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["request.json", "--model", "fast"],
        ["/does/not/exist.json"],
        ["--model", "fast", "--unhealthy", "near/tiny"],
        ["--model", "fast", "--url", "http://127.0.0.1:1", "--unhealthy", "near/small"],
        ["--model", "fast", "--url", "ftp://127.0.0.1"],
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Exit 2, before anything is planned."""
    monkeypatch.setenv("TIERGATE_CATALOG", str(catalog))
    assert run(*arguments).exit_code == 2


def test_an_id_that_is_cut_short_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not a file that is missing."""
    monkeypatch.setenv("COLUMNS", "200")
    result = run("req_01a1fe0ba4f47a3b")
    assert result.exit_code == 2
    assert "is no request's id (req_ and 32 hexadecimal digits)" in result.stderr


class Gateway(BaseHTTPRequestHandler):
    """Answers as a gateway's admin API would, and keeps what it was asked."""

    url: str
    asked: list[tuple[str, str | None, bytes]]
    answer: tuple[int, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append((self.path, self.headers["authorization"], body))
        status, answer = self.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Gateway]]:
    """A server on loopback; its address and token are in the environment."""
    handler = type("Handler", (Gateway,), {"asked": [], "answer": (200, msgspec.json.encode(PLAN))})
    server = HTTPServer(("127.0.0.1", 0), handler)
    handler.url = f"http://127.0.0.1:{server.server_port}/"
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("TIERGATE_ADMIN_TOKEN", "admin-token")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # never used
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def ask(gateway: type[Gateway]) -> Result:
    return run("--model", "fast", "--url", gateway.url)


def test_a_running_gateway_is_asked_through_its_admin_api(gateway: type[Gateway]) -> None:
    """With the admin token, and no proxy in between."""
    result = ask(gateway)
    ((path, authorization, body),) = gateway.asked
    assert (path, authorization) == ("/admin/api/explain", "Bearer admin-token")
    assert msgspec.json.decode(body)["request"]["model"] == "fast"
    assert "Plan for fast → lesser" in result.stdout
    assert "[bold]breaker open" in result.stdout  # words of others are no markup
    assert "unknown" in result.stdout


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (404, {"error": {"message": "The model 'fast' does not exist here."}}, "The model 'fast' does not exist here."),
        (502, "nginx", "the gateway answered 502"),
        (200, "<html>", "does not answer as a gateway"),
    ],
)
def test_a_gateways_refusal_is_told(gateway: type[Gateway], status: int, answer: Any, message: str) -> None:
    """Its own words where it has any."""
    gateway.answer = (status, answer.encode() if isinstance(answer, str) else msgspec.json.encode(answer))
    result = ask(gateway)
    assert result.exit_code == 1
    assert message in result.stderr


def test_the_token_may_lie_in_the_data_folder(
    gateway: type[Gateway], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As for every other command that talks to a gateway."""
    monkeypatch.delenv("TIERGATE_ADMIN_TOKEN")
    (tmp_path / "admin-token").write_text("kept-token\n")
    assert run("--model", "fast", "--url", gateway.url, "--data-dir", str(tmp_path)).exit_code == 0
    ((_, authorization, _),) = gateway.asked
    assert authorization == "Bearer kept-token"


def test_without_a_token_nothing_is_asked(
    gateway: type[Gateway], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It says which variable to set."""
    monkeypatch.delenv("TIERGATE_ADMIN_TOKEN")
    result = run("--model", "fast", "--url", gateway.url, "--data-dir", str(tmp_path))
    assert (result.exit_code, gateway.asked) == (1, [])
    assert "set TIERGATE_ADMIN_TOKEN" in result.stderr


def test_a_gateway_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port is no traceback."""
    monkeypatch.setenv("TIERGATE_ADMIN_TOKEN", "admin-token")
    result = run("--model", "fast", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "cannot reach the gateway at http://127.0.0.1:1" in result.stderr
