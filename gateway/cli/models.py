"""`tiergate models`: what the catalog offers, by what it can do and what it costs. Works offline."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.catalog.find import find_models
from gateway.catalog.snapshot import Snapshot
from gateway.cli.catalog import load_or_exit, no_model, usable_now, wide_console
from gateway.types import Capability, Deployment, Model, Price, Rates, capabilities_of

app = typer.Typer(help="Find models in the catalog.", no_args_is_help=True)

Catalog = Annotated[Path | None, typer.Option("--catalog", help="The document.")]
_PICO_PER_USD_PER_MTOK = 1_000_000


@app.command("list")
def list_models(
    require: Annotated[str, typer.Option(help="Capabilities that a model must have, by comma.")] = "",
    prefer: Annotated[str, typer.Option(help="Capabilities that put a model first, by comma.")] = "",
    provider: Annotated[str | None, typer.Option(help="Only models that this provider serves.")] = None,
    max_input_price: Annotated[str | None, typer.Option(help="Most US dollars per million input tokens.")] = None,
    catalog: Catalog = None,
) -> None:
    """List enabled models."""
    snapshot = load_or_exit(catalog)
    if provider is not None and provider not in snapshot.providers:
        raise typer.BadParameter(f"unknown provider '{provider}'; known: {', '.join(snapshot.providers)}")
    limit = _pico(max_input_price)
    now = time.time()
    rows = []
    for model in find_models(snapshot, _capabilities(require), _capabilities(prefer)):
        deployments = [d for d in _served(snapshot, model) if provider is None or d.provider.name == provider]
        cheapest = min((p.rates for d in deployments if (p := d.price_at(now))), key=lambda r: r.input, default=None)
        too_dear = limit is not None and (cheapest is None or cheapest.input > limit)
        if deployments and not too_dear:
            rows.append((model, deployments, cheapest))
    _print_models(rows)


@app.command()
def search(text: str, catalog: Catalog = None) -> None:
    """Find models whose name, guidance or deployments contain a text; whatever their status."""
    snapshot = load_or_exit(catalog)
    now, wanted = time.time(), text.casefold()
    rows = []
    for model in snapshot.models.values():
        deployments = _served(snapshot, model)
        words = [model.name, model.display_name, *_guidance_lines(model), *(d.upstream_id for d in deployments)]
        if any(wanted in word.casefold() for word in words):
            cheapest = min(
                (p.rates for d in deployments if (p := d.price_at(now))), key=lambda r: r.input, default=None
            )
            rows.append((model, deployments, cheapest))
    _print_models(rows)


@app.command()
def show(name: str, catalog: Catalog = None) -> None:
    """Show one model: what it can do, advice, prices, and where it can be had now."""
    snapshot = load_or_exit(catalog)
    target = snapshot.targets.get(name)
    model = snapshot.models.get(name) or (target.model if target else None)
    if model is None:
        raise no_model(snapshot, name)
    console = wide_console()
    console.print(f"[bold]{escape(model.display_name)}[/bold] ({escape(model.name)}), {model.status}")
    console.print(f"can: {', '.join(capabilities_of(model.capabilities))}")
    console.print(f"context: {_tokens(model.input_tokens)} in, {_tokens(model.output_tokens)} out")
    if model.replacement:
        console.print(f"replacement: {escape(model.replacement)}")
    for line in _guidance_lines(model):
        console.print(escape(line))
    table = Table(
        "deployment", "upstream id", "usable now", "from", *(f"{name} $/M" for name in ("in", "cached", "out"))
    )
    now = time.time()
    for deployment in _served(snapshot, model):
        first = (deployment.name, deployment.upstream_id, usable_now(deployment))
        for index, price in enumerate(_shown_prices(deployment, now)):
            starts = time.strftime("%Y-%m-%d", time.gmtime(price.from_at))
            table.add_row(*(first if index == 0 else ("", "", "")), starts, *_figures(price.rates))
        if not deployment.prices:
            table.add_row(*first, "", *_figures(None))
    console.print(table)


def _print_models(rows: Sequence[tuple[Model, Sequence[Deployment], Rates | None]]) -> None:
    if not rows:
        typer.echo("no model fits")
        return
    table = Table(
        Column("model", no_wrap=True),
        "status",
        "context",
        "in $/M",
        "cached $/M",
        "out $/M",
        "providers (usable ones first)",
    )
    for model, deployments, rates in rows:
        names = dict.fromkeys(d.provider.name for d in sorted(deployments, key=lambda d: usable_now(d) != "yes"))
        table.add_row(model.name, model.status, _tokens(model.input_tokens), *_figures(rates), ", ".join(names))
    wide_console().print(table)


def _served(snapshot: Snapshot, model: Model) -> list[Deployment]:
    return [deployment for deployment in snapshot.deployments.values() if deployment.model is model]


def _shown_prices(deployment: Deployment, now: float) -> Iterator[Price]:
    """The row in force and those to come."""
    current = deployment.price_at(now)
    if current:
        yield current
    yield from (price for price in deployment.prices if price.from_at > now)


def _figures(rates: Rates | None) -> tuple[str, str, str]:
    """Input, cached input and output in US dollars per million tokens; `?` where unknown."""
    if rates is None:
        return ("?", "?", "?")
    cached = rates.input if rates.cache_read is None else rates.cache_read
    return (_usd(rates.input), _usd(cached), _usd(rates.output))


def _usd(pico: int) -> str:
    return f"{Decimal(pico) / _PICO_PER_USD_PER_MTOK:f}"


def _pico(usd: str | None) -> int | None:
    if usd is None:
        return None
    try:
        return int(Decimal(usd) * _PICO_PER_USD_PER_MTOK)
    except (ArithmeticError, ValueError):
        raise typer.BadParameter(f"'{usd}' is no amount; write US dollars, as in 1.25") from None


def _tokens(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _capabilities(text: str) -> frozenset[Capability]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in set(Capability):
            raise typer.BadParameter(f"unknown capability '{name}'; known: {', '.join(Capability)}")
    return frozenset(Capability(name) for name in names)


def _guidance_lines(model: Model) -> list[str]:
    return [
        f"{topic.replace('_', ' ')}: {text}"
        for topic, advice in model.guidance.items()
        for text in ([advice] if isinstance(advice, str) else advice)
    ]
