"""`tiergate experiments`: what is tried in the tiers, and what came of it."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, print_json
from gateway.cli.catalog import wide_console
from gateway.money import usd

app = typer.Typer(help="See experiments, canaries and shadows of a running gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The experiment's name.")]
Format = Annotated[Literal["table", "json"], typer.Option(help="table or json.")]


@app.command("list")
def list_experiments(format: Format = "table", url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List experiments, canaries and shadows by tier, and how the canaries stand."""
    answer = AdminApi(url, data_dir).ask("GET", "experiments")
    if format == "json":
        print_json(answer)
        return
    table = Table("experiment", "kind", "tier", "models", "state")
    for row in msgspec.json.decode(answer)["data"]:
        state = row.get("state", "running")
        shown = f"{state}: {row['reason']}" if row.get("reason") else state
        cells = (row["experiment"], row["kind"], row["tier"], ", ".join(row["models"]), shown)
        table.add_row(*(escape(cell) for cell in cells))
    wide_console().print(table)


@app.command()
def report(
    name: Name,
    from_: Annotated[
        str | None, typer.Option("--from", help="First day, UTC; default: the first of this month.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="End, not part of it; default: the end of today.")] = None,
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare the arms of an experiment: requests, errors, latency, cost and feedback."""
    path = f"experiments/{quote(name, safe='')}"
    answer = AdminApi(url, data_dir).ask("GET", path, {"from": from_, "to": to})
    if format == "json":
        print_json(answer)
        return
    made = msgspec.json.decode(answer)
    numbers = (
        "requests",
        "errors",
        "mean ms",
        "mean ttft ms",
        "input",
        "output",
        "cost USD",
        "per request",
        "feedback",
    )
    columns = [Column(number, justify="right") for number in (*numbers, "mean score")]
    table = Table("arm", *columns, "labels", title=escape(f"{name}: {made['from']} to {made['to']}"))
    for arm in made["arms"]:
        feedback, requests = arm["feedback"], arm["requests"]
        counts = [f"{arm[field]:,}" for field in ("requests", "errors")]
        times = [_shown(arm[field]) for field in ("mean_latency_ms", "mean_ttft_ms")]
        tokens = [f"{arm[field]:,}" for field in ("input_tokens", "output_tokens")]
        each = usd(arm["cost_nano_usd"] // requests) if requests else ""
        labels = ", ".join(f"{label} {count:,}" for label, count in sorted(feedback["labels"].items()))
        opinions = (f"{feedback['count']:,}", _shown(feedback["mean_score"]), escape(labels))
        table.add_row(escape(arm["arm"]), *counts, *times, *tokens, arm["cost_usd"], each, *opinions)
    wide_console().print(table)


@app.command()
def resume(name: Name, url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Let a stopped canary go on, with its statistics begun anew."""
    AdminApi(url, data_dir).ask("POST", f"experiments/{quote(name, safe='')}/resume")
    typer.echo(f"{name} runs again")


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:,}"
