"""`tiergate budgets`: budgets and rates of teams, tags, tiers, sessions and the tenant."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, print_json, warn
from gateway.cli.catalog import wide_console

app = typer.Typer(help="Set budgets and rates for teams, tags, tiers, sessions and the tenant.", no_args_is_help=True)

Format = Annotated[Literal["table", "json"], typer.Option("--format", help="table or json.")]
RuleId = Annotated[str, typer.Argument(help="The budget's id.")]


@app.command("set")
def set_budget(
    rule_id: RuleId,
    of: Annotated[str, typer.Option(help="tenant, session, team:NAME, tier:NAME or tag:NAME=VALUE.")],
    usd: Annotated[str | None, typer.Option(help="US dollars for each period.")] = None,
    per: Annotated[Literal["hour", "day", "month", "total"], typer.Option(help="The period, UTC.")] = "month",
    soft: Annotated[bool, typer.Option("--soft", help="Count and warn only.")] = False,
    on_store_down: Annotated[
        Literal["deny", "allow", "local"], typer.Option(help="What becomes of requests while the store is away.")
    ] = "deny",
    rpm: Annotated[int | None, typer.Option(help="Requests per minute.")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens per minute.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    rates_on_store_down: Annotated[
        Literal["deny", "allow", "local"], typer.Option(help="The same for rpm, tpm and concurrency.")
    ] = "allow",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a budget, or replace the one of that id; it holds within five seconds everywhere."""
    subject, _, name = of.partition(":")
    given = {"usd": usd, "rpm": rpm, "tpm": tpm, "concurrency": concurrency}
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    body |= {"id": rule_id, "of": subject, "name": name, "per": per, "hard": not soft, "on_store_down": on_store_down}
    body["rates_on_store_down"] = rates_on_store_down
    answer = AdminApi(url, data_dir).ask("POST", "budgets", body=body)
    typer.echo(f"Budget {rule_id} is set.")
    warn(msgspec.json.decode(answer))


@app.command("list")
def list_budgets(format: Format = "table", url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List budgets with what is spent and held in their current period."""
    answer = AdminApi(url, data_dir).ask("GET", "budgets")
    if format == "json":
        print_json(answer)
        return
    right = [Column(name, justify="right") for name in ("USD", "spent", "held", "rpm", "tpm", "at once")]
    table = Table("id", "of", "per", "kind", *right)
    for rule in msgspec.json.decode(answer)["data"]:
        of = rule["of"] + (f":{rule['name']}" if rule["name"] else "")
        numbers = (rule["usd"], rule["spent_usd"], rule["held_usd"], rule["rpm"], rule["tpm"], rule["concurrency"])
        kind = "hard" if rule["hard"] else "soft"
        shown = ("" if n is None else str(n) for n in numbers)
        table.add_row(rule["id"], escape(of), rule["per"], kind, *shown)
    wide_console().print(table)


@app.command()
def delete(rule_id: RuleId, url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete a budget; what was spent stays in the books."""
    AdminApi(url, data_dir).ask("DELETE", f"budgets/{quote(rule_id, safe='')}")
    typer.echo(f"Budget {rule_id} is deleted.")
