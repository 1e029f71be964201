"""`tiergate models discover, approve, …`: decisions on the models of a running gateway."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.catalog.trial import PROBES, verdict
from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, fail, print_json
from gateway.cli.catalog import wide_console
from gateway.cli.keys import Format
from gateway.routing.resolve import TRIAL

Ids = Annotated[list[str], typer.Argument(help="Models, as `tiergate models waiting` or `models list` names them.")]
Force = Annotated[bool, typer.Option("--force", help="Although a price or capability is missing.")]


def discover(
    provider: Annotated[str | None, typer.Option(help="Ask only this provider.")] = None,
    category: Annotated[str | None, typer.Option(help="Tell only new models for text, speech or other.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Ask although five minutes have not passed.")] = False,
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Ask the providers which models they offer; new ones wait for a decision."""
    fields = {"provider": provider, "category": category, "force": force}
    body = {name: value for name, value in fields.items() if value is not None}
    answer = AdminApi(url, data_dir).ask("POST", "models/discover", body=body)
    if format == "json":
        print_json(answer)
        return
    table = Table(Column("provider", no_wrap=True), "outcome", "listed", "new", "vanished")
    for row in msgspec.json.decode(answer)["data"]:
        said = row["state"] + (f": {row['detail']}" if row["detail"] else "")
        new = ", ".join(row["new"][:20]) + (f" and {len(row['new']) - 20} more" if len(row["new"]) > 20 else "")
        table.add_row(*map(escape, (row["provider"], said, str(row["listed"]), new, ", ".join(row["vanished"]))))
    wide_console().print(table)


def waiting(
    provider: Annotated[str | None, typer.Option(help="Only models of this provider.")] = None,
    category: Annotated[str | None, typer.Option(help="Only models for text, speech or other.")] = None,
    status: Annotated[str, typer.Option(help="pending, rejected or vanished.")] = "pending",
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List discovered models that wait for a decision, with what is suggested of them."""
    query = {"provider": provider, "category": category, "status": status}
    answer = AdminApi(url, data_dir).ask("GET", "models", query)
    if format == "json":
        print_json(answer)
        return
    found = msgspec.json.decode(answer)
    table = Table(Column("model", no_wrap=True), "for", "sort", "can", "in $/M", "out $/M", "missing")
    for row in found["data"]:
        rates = row.get("usd_per_mtok") or {}
        sort = row.get("sort", "") + (f" of {row['of']}" if row.get("of") else "")
        cells = (row["id"], row["category"], sort, ", ".join(row["capabilities"]), rates.get("input", "?"))
        table.add_row(*map(escape, (*cells, rates.get("output", "?"), "; ".join(row.get("missing", ())))))
    wide_console().print(table)
    for name, seen in found["lists"].items():
        typer.echo(
            f"{name}: {seen['listed']} listed, {seen['refreshed']}" + (f"; {seen['error']}" if seen["error"] else "")
        )


def approve(
    ids: Ids,
    force: Force = False,
    name: Annotated[str | None, typer.Option(help="What the catalog shall call it; for one model.")] = None,
    capability: Annotated[
        list[str] | None, typer.Option(help="What it can do; may be repeated; for one model.")
    ] = None,
    input_price: Annotated[str | None, typer.Option(help="US dollars per million input tokens; for one model.")] = None,
    output_price: Annotated[
        str | None, typer.Option(help="US dollars per million output tokens; for one model.")
    ] = None,
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Put discovered models into the catalog; one that lacks a price or capability is refused unless forced."""
    if (input_price is None) != (output_price is None):
        raise typer.BadParameter("give both --input-price and --output-price")
    facts: dict[str, Any] = {"name": name, "capabilities": capability}
    if input_price is not None:
        facts["usd_per_mtok"] = {"input": input_price, "output": output_price}
    facts = {field: value for field, value in facts.items() if value}
    if facts and len(ids) > 1:
        raise typer.BadParameter("facts can be given for one model at a time")
    api = AdminApi(url, data_dir)
    if facts:
        api.ask("PATCH", f"models/{quote(ids[0], safe='')}", body=facts)
    _decide(api, ids, "enabled", {"force": force})


def reject(ids: Ids, url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Hide discovered models; they stay known, so that they are not found again."""
    _decide(AdminApi(url, data_dir), ids, "rejected", {})


def disable(
    ids: Ids,
    reason: Annotated[str | None, typer.Option(help="Told to callers who ask for it.")] = None,
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Take models out of use; who asks for one is refused with the reason."""
    _decide(AdminApi(url, data_dir), ids, "disabled", {} if reason is None else {"reason": reason})


def enable(ids: Ids, url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Take models of the catalog into use again."""
    _decide(AdminApi(url, data_dir), ids, "enabled", {})


def deprecate(
    model: Annotated[str, typer.Argument(help="The model.")],
    replacement: Annotated[str | None, typer.Option(help="The model that answers in its place.")] = None,
    retires_on: Annotated[str | None, typer.Option(help="Day of its end, as in 2027-01-31.")] = None,
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Mark a model as outdated; its replacement, else the provider's default, answers in its place."""
    fields = {"status": "deprecated", "replacement": replacement, "retires_on": retires_on}
    body = {name: value for name, value in fields.items() if value is not None}
    AdminApi(url, data_dir).ask("PATCH", f"models/{quote(model, safe='')}", body=body)
    typer.echo(f"{model} is deprecated")


def default(
    provider: Annotated[str, typer.Argument(help="The provider.")],
    model: Annotated[str, typer.Argument(help="A model of the catalog.")],
    category: Annotated[str, typer.Option(help="text or speech.")] = "text",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Set the model to which a provider's outdated and vanished ones fall."""
    body = {"provider": provider, "category": category, "model_id": model}
    AdminApi(url, data_dir).ask("POST", "models/default", body=body)
    typer.echo(f"{model} is the default of {provider} for {category}")


def try_out(
    name: Annotated[str, typer.Argument(help="A model, `provider/model`, or one that waits as `provider/id`.")],
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Try what a model really can do, by one tiny live call each; exit status 1 where the catalog claims too much."""
    api = AdminApi(url, data_dir)
    claimed = _claims(api, name)
    table = Table("call", "the catalog claims it", "works", "detail")
    too_much = False
    for probe in PROBES:
        wrong = verdict(probe, *api.chat({"model": TRIAL + name, **probe.fields}))
        claims = probe.capability.value in claimed
        too_much |= claims and wrong is not None
        table.add_row(probe.name, "yes" if claims else "no", "no" if wrong else "yes", escape(wrong or ""))
    wide_console().print(table)
    if too_much:
        raise typer.Exit(1)


def _claims(api: AdminApi, name: str) -> list[str]:
    """What the catalog, or what is suggested, says that a model can do."""
    models = {row["id"]: row for row in msgspec.json.decode(api.ask("GET", "models"))["data"]}
    row = models.get(name) or models.get(name.partition("/")[2].partition("#")[0])
    if row is None:
        fail(f"no model '{name}' is in the catalog or waits for a decision")
    claims: list[str] = row["capabilities"]
    return claims


def _decide(api: AdminApi, ids: list[str], status: str, more: dict[str, Any]) -> None:
    """One decision on all; what is refused is told, and makes the exit status 1."""
    answer = msgspec.json.decode(api.ask("POST", "models/bulk", body={"ids": ids, "status": status, **more}))
    for model in answer["changed"]:
        typer.echo(f"{model}: {status}")
    for row in answer["refused"]:
        typer.echo(f"tiergate: {row['id']}: {row['reason']}", err=True)
    if answer["refused"]:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to `tiergate models`."""
    for command in (discover, waiting, approve, reject, disable, enable, deprecate, default):
        app.command()(command)
    app.command("test")(try_out)
