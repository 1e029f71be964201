"""`tiergate report`: what was spent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, print_json
from gateway.cli.catalog import wide_console

From = Annotated[str | None, typer.Option("--from", help="First day (or time), UTC; default: the first of this month.")]
To = Annotated[str | None, typer.Option("--to", help="End, not part of the period; default: the end of today.")]

_BY = "day,tier,model"
_COLUMNS = ("attempts", "input", "cached", "output", "reasoning", "estimated", "unpriced", "cost USD")


def report(
    from_: From = None,
    to: To = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="hour, day, month, key, team, tag:NAME, tier, model, provider, deployment, price_id; default: "
            f"{_BY}, in FOCUS by all."
        ),
    ] = None,
    format: Annotated[
        Literal["table", "json", "csv", "focus"], typer.Option(help="table, json, csv, or focus: CSV by FOCUS 1.2.")
    ] = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Cost and usage of a period; the total is the sum of its ledger entries."""
    as_csv = format in ("csv", "focus")
    given = by if by is not None or format == "focus" else _BY
    query = {"from": from_, "to": to, "by": given, "format": format if as_csv else "json"}
    answer = AdminApi(url, data_dir).ask("GET", "report", query)
    if format == "json":
        print_json(answer)
        return
    if as_csv:
        typer.echo(answer.decode(), nl=False)
        return
    made = msgspec.json.decode(answer)
    names = [column for name in made["by"] for column in ((name, "key_name") if name == "key" else (name,))]
    numbers = [Column(name, justify="right") for name in _COLUMNS]
    title = f"{made['from']} to {made['to']}"
    table = Table(*names, *numbers, title=title, show_footer=False)
    for row in made["rows"]:
        table.add_row(*(escape(str(row[name])) for name in names), *_numbers(row))
    table.add_section()
    table.add_row(*(["total", *[""] * (len(names) - 1)] if names else []), *_numbers(made["total"]), style="bold")
    wide_console().print(table)


def _numbers(row: dict[str, Any]) -> list[str]:
    """A row's numbers in OpenAI's way of counting: input holds cached tokens, output holds reasoning."""
    cached = row["cache_read"]
    prompt = row["input"] + cached + row["cache_write_5m"] + row["cache_write_1h"] + row["audio_in"]
    counts = (row["attempts"], prompt, cached, row["output"] + row["audio_out"], row["reasoning"])
    return [f"{n:,}" for n in (*counts, row["estimated"], row["unpriced"])] + [row["cost_usd"]]
