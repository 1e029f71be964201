"""`tiergate prices`: what models cost, did and will; what public price data say otherwise. Works offline."""

from __future__ import annotations

import calendar
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.catalog.load import check_text, read_catalog
from gateway.catalog.pricedata import PriceData, installed_price_data, read_price_data
from gateway.catalog.prices import rates_text
from gateway.catalog.propose import propose as compare
from gateway.catalog.snapshot import Snapshot
from gateway.cli.admin import fail
from gateway.cli.catalog import catalog_path, load_or_exit, no_model, wide_console
from gateway.errors import CatalogError
from gateway.types import Deployment, Price

app = typer.Typer(help="Show prices, past and future, and compare them with public data.", no_args_is_help=True)

Catalog = Annotated[Path | None, typer.Option("--catalog", help="The document.")]
Model = Annotated[str, typer.Argument(help="A model or `provider/model`.")]


@app.command()
def show(
    model: Model,
    at: Annotated[str | None, typer.Option(help="Day (UTC) for which to show them. Default: now.")] = None,
    catalog: Catalog = None,
) -> None:
    """Show what a model costs at each deployment, on a day."""
    now = time.time() if at is None else _day(at)
    table = Table(Column("deployment", no_wrap=True), "from", "usd per million tokens", "source", "checked")
    for deployment in _deployments(load_or_exit(catalog), model):
        price = deployment.price_at(now)
        table.add_row(deployment.name, *(("", "no price in force", "", "") if price is None else _cells(price)))
    wide_console().print(table)


@app.command()
def history(model: Model, catalog: Catalog = None) -> None:
    """Show every price row of a model: past ones, the one in force, and those to come."""
    table = Table(Column("deployment", no_wrap=True), "", "from", "usd per million tokens", "source", "checked")
    now = time.time()
    for deployment in _deployments(load_or_exit(catalog), model):
        current = deployment.price_at(now)
        for price in deployment.prices:
            when = "in force" if price is current else "past" if price.from_at <= now else "to come"
            table.add_row(deployment.name, when, *_cells(price))
    wide_console().print(table)


@app.command()
def propose(
    data: Annotated[
        list[Path] | None,
        typer.Option(
            envvar="TIERGATE_PRICE_DATA", help="genai-prices' data.json or litellm's model map; may be repeated."
        ),
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Also the package genai-prices: pip install 'tiergate\\[prices]'.")
    ] = False,
    catalog: Catalog = None,
) -> None:
    """Compare the prices in force with public data sets and print rows to append; changes nothing itself."""
    if not data and not installed:
        raise typer.BadParameter("name at least one file with --data, or say --installed")
    snapshot = load_or_exit(catalog)
    try:
        sets = _sets(data or [], installed)
    except CatalogError as error:
        fail(str(error))
    _, entries = check_text(read_catalog(catalog_path(catalog)), "catalog")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    count = 0
    for found in compare(entries, snapshot, sets, time.time()):
        count += 1
        typer.echo(f"{found.deployment}:")
        for rate, (ours, theirs) in found.differing.items():
            said = ", ".join(f"{name} {value}" for name, value in theirs.items())
            typer.echo(f"  {rate}: catalog {ours or 'nothing'}; {said}")
        if found.agreed is None:
            typer.echo("  the data sets disagree; look at the provider's own page")
        else:
            rates = ", ".join(f'{name}: "{usd}"' for name, usd in found.agreed.items())
            typer.echo(f'  - {{from: {today}, usd_per_mtok: {{{rates}}}, source: "{found.source}"}}')
    typer.echo(f"{count} of {len(snapshot.deployments)} deployments differ; nothing was changed")


def _sets(files: list[Path], installed: bool) -> list[PriceData]:
    """The data sets, each with a name of its own, so that none hides what another says."""
    now = time.time()
    found = {data.name: data for data in ([installed_price_data(now)] if installed else [])}
    for path in files:
        data = read_price_data(path, now)
        name = data.name if data.name not in found else f"{data.name} ({path})"
        found[name] = replace(data, name=name)
    return list(found.values())


def _deployments(snapshot: Snapshot, name: str) -> list[Deployment]:
    target = snapshot.targets.get(name)
    for wanted in (name, name if target is None else target.name):  # a retired model's own ones before its heir's
        if found := [d for d in snapshot.deployments.values() if wanted in (d.name, d.model.name)]:
            return found
    raise no_model(snapshot, name)


def _cells(price: Price) -> tuple[str, str, str, str]:
    rates = ", ".join(f"{name} {usd}" for name, usd in rates_text(price.rates).items())
    more = [f"above {cliff.above_tokens:,} tokens" for cliff in price.cliffs]
    more += list(price.service_tiers) + (["off-peak"] if price.off_peak else [])
    starts = time.strftime("%Y-%m-%d", time.gmtime(price.from_at))
    return starts, rates + (f"; others for {', '.join(more)}" if more else ""), escape(price.source), price.checked


def _day(text: str) -> float:
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%d")))
    except ValueError:
        raise typer.BadParameter(f"--at must be a day, as in 2027-01-31, not {text!r}") from None
