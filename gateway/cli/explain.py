"""`tiergate explain`: which deployments would serve a request, in which order, and why the others would not."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gateway.catalog.snapshot import Snapshot
from gateway.chat import parse_chat
from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, print_json
from gateway.cli.catalog import load_or_exit, wide_console
from gateway.errors import GatewayError
from gateway.routing.explain import explain as in_words
from gateway.routing.needs import infer_needs
from gateway.routing.options import parse_options
from gateway.routing.plan import Planner
from gateway.routing.resolve import resolve
from gateway.types import Facts, Health

_REQUEST_ID = re.compile(r"req_[0-9a-f]{32}")


def explain(
    request: Annotated[
        Path | None,
        typer.Argument(help="A chat-completions body as JSON (- reads it from input), or the id of a past request."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="In place of a file: the model or tier to ask for.")] = None,
    message: Annotated[str, typer.Option(help="With --model: what the user says.")] = "hello",
    catalog: Annotated[Path | None, typer.Option(help="The document to plan with.")] = None,
    unhealthy: Annotated[list[str] | None, typer.Option(help="Suppose that this deployment is down.")] = None,
    url: Annotated[str | None, typer.Option(help="Ask this running gateway, with its health of now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show the plan of a request without sending it: offline from the catalog, or as a running gateway would decide.

    Offline, every deployment counts as healthy unless named by --unhealthy. A gateway is asked with its admin token,
    from TIERGATE_ADMIN_TOKEN or its data folder. A request id (req_...) shows how that request was routed, made again
    from what was recorded; exit status 1 where it came out otherwise.
    """
    if request is not None and _REQUEST_ID.fullmatch(str(request)):
        _explain_past(
            str(request), AdminApi(url or os.environ.get("TIERGATE_URL") or DEFAULT_URL, data_dir), as_json=as_json
        )
        return
    body = _body(request, model, message)
    if url is None:
        plan = plan_offline(load_or_exit(catalog), body, unhealthy or [])
    elif catalog is None and not unhealthy:
        plan = _ask(url, data_dir, body)
    else:
        raise typer.BadParameter("a running gateway plans with its own catalog and health; leave these options out")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(plan)).decode())
    else:
        wide_console().print(table(plan))


def _explain_past(request_id: str, api: AdminApi, *, as_json: bool) -> None:
    answer = api.ask("GET", "explain", {"request_id": request_id})
    said = msgspec.json.decode(answer)
    if as_json:
        print_json(answer)
    else:
        if "plan" in said:
            wide_console().print(table(said["plan"]))
        elif said["refused"]:
            typer.echo(f"{said['alias']} was refused: {said['refused']}")
        else:
            typer.echo(f"{said['alias']} was tried at: {', '.join(said['order'])}")
        typer.echo(_REPRODUCED[said["reproduced"]].format(said["catalog"]))
        if "note" in said:
            typer.echo(said["note"])
    if said["reproduced"] is False:
        raise typer.Exit(1)


_REPRODUCED = {
    True: "Made again from catalog {}: the same.",
    False: "Made again from catalog {}: not the same.",
    None: "Not made again: decided by catalog {}.",
}


def plan_offline(snapshot: Snapshot, body: bytes, unhealthy: list[str]) -> dict[str, Any]:
    """The explained plan of a request body, with these deployments down; exits with 1 where there is none."""
    for name in unhealthy:
        if name not in snapshot.deployments:
            known = ", ".join(snapshot.deployments)
            raise typer.BadParameter(f"the catalog has no deployment '{name}'; it has: {known}")
    facts = Facts(now=time.time(), health={name: Health("open") for name in unhealthy})
    try:
        chat = parse_chat(body)
        options = parse_options(chat.head.gateway, {})
        target = resolve(snapshot, chat.model, options)
        needs = infer_needs(chat, options)
        plan = Planner(snapshot).plan(chat.model, target, needs, options, facts, explain=True)
    except GatewayError as error:
        raise _failed(error.message) from None
    return in_words(plan)


def table(plan: dict[str, Any]) -> Group:
    """An explained plan for the terminal: who is tried, who is not and why, and what each rule did."""
    served = plan["tier"] or plan["alias"]
    title = plan["alias"] if served == plan["alias"] else f"{plan['alias']} → {served}"
    chosen = Table("#", "deployment", "model", "region", title=f"Plan for {title}", title_justify="left")
    chosen.add_column("expected cost", justify="right")
    for row in plan["candidates"]:
        cost = "unknown" if row["expected_usd"] is None else f"${row['expected_usd']}"
        cells = (row["rank"], row["deployment"], row["model"], row["region"] or "", cost)
        chosen.add_row(*(Text(str(cell)) for cell in cells))
    parts: list[Table | Text] = [chosen]
    if plan["dropped"]:
        dropped = Table("deployment", "rule", "reason", title="Not candidates", title_justify="left")
        for row in plan["dropped"]:
            dropped.add_row(*(Text(row[field]) for field in ("deployment", "rule", "reason")))
        parts.append(dropped)
    if plan.get("arms"):
        parts.append(Text("Experiments: " + ", ".join(f"{name}={arm}" for name, arm in plan["arms"].items())))
    parts += [Text(f"{number:>3}. {step}") for number, step in enumerate(plan["steps"], 1)]
    return Group(*parts)


def _body(request: Path | None, model: str | None, message: str) -> bytes:
    if (request is None) == (model is None):
        raise typer.BadParameter("give either a file with a request, or --model")
    if request is None:
        return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": message}]})
    if str(request) == "-":
        return sys.stdin.buffer.read()
    try:
        return request.read_bytes()
    except OSError as error:
        if str(request).startswith("req_"):
            message = f"{request} is no request's id (req_ and 32 hexadecimal digits), and no file of that name is here"
            raise typer.BadParameter(message) from None
        raise typer.BadParameter(f"{request} cannot be read: {error.strerror}") from None


def _ask(url: str, data_dir: Path, body: bytes) -> dict[str, Any]:
    """The plan as a running gateway makes it; exits with 1 and its words where it makes none."""
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url} is no address; write {DEFAULT_URL}")
    answer = AdminApi(url, data_dir).ask("POST", "explain", body={"request": msgspec.Raw(body)})
    try:
        plan: dict[str, Any] = msgspec.json.decode(answer)
    except msgspec.DecodeError as error:
        raise _failed(f"{url} does not answer as a gateway: {error}") from None
    return plan


def _failed(message: str) -> typer.Exit:
    typer.echo(f"tiergate: {message}", err=True)
    return typer.Exit(1)
