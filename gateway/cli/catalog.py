"""`tiergate catalog`: check the document, show what it compiles to, print its schema. Works offline."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from gateway.catalog.load import load_catalog
from gateway.catalog.problems import InvalidCatalog
from gateway.catalog.reference import render_reference
from gateway.catalog.snapshot import Snapshot
from gateway.catalog.source import default_catalog_path
from gateway.catalog.validate import json_schema
from gateway.types import Deployment

app = typer.Typer(help="Check and show the catalog document.", no_args_is_help=True)

File = Annotated[
    Path | None, typer.Argument(help="The document. Default: TIERGATE_CATALOG, ./catalog.yaml, else the shipped one.")
]
Output = Annotated[Path | None, typer.Option("--write", help="Write to this file in place of standard output.")]


def catalog_path(file: Path | None) -> Path:
    """The document that a command reads where it is given this one, or none."""
    given = os.environ.get("TIERGATE_CATALOG")
    return file or (Path(given) if given else default_catalog_path())


def load_or_exit(file: Path | None) -> Snapshot:
    """The snapshot of a document; prints every problem and exits with 1 where it cannot take effect."""
    path = catalog_path(file)
    try:
        return load_catalog(path, os.environ, time.time())
    except InvalidCatalog as error:
        typer.echo(str(error), err=True)
        count = len(error.problems)
        typer.echo(f"{path}: {count} problem{'s' if count != 1 else ''}; this document cannot take effect", err=True)
        raise typer.Exit(1) from None


def no_model(snapshot: Snapshot, name: str) -> typer.BadParameter:
    """What is wrong with a name that was given for a model's."""
    target = snapshot.targets.get(name)
    if target is not None and target.kind == "tier":
        models = dict.fromkeys(d.model.name for d in (*target.tier.deployments, *target.tier.fallback))
        return typer.BadParameter(f"'{name}' means the tier '{target.name}', not a model; it has: {', '.join(models)}")
    near = [like for like in snapshot.nearest(name) if like in snapshot.models or like in snapshot.deployments]
    return typer.BadParameter(f"unknown model '{name}'" + (f"; did you mean {', '.join(near)}?" if near else ""))


@app.command()
def check(file: File = None) -> None:
    """Say whether a document could take effect; list every problem with its line and fix, and every warning."""
    snapshot = load_or_exit(file)
    for warning in snapshot.warnings:
        typer.echo(f"warning: {warning}", err=True)
    usable = sum(1 for provider in snapshot.providers.values() if provider.unavailable is None)
    typer.echo(
        f"catalog {snapshot.version} is good: {len(snapshot.models)} models, {len(snapshot.deployments)} deployments, "
        f"{len(snapshot.tiers)} tiers; {usable} of {len(snapshot.providers)} providers can be used now"
    )


@app.command()
def show(file: File = None) -> None:
    """Show the tiers with their deployments in the order of the document, and the providers."""
    snapshot = load_or_exit(file)
    console = wide_console()
    tiers = Table(
        "tier", Column("deployment", no_wrap=True), "upstream id", "usable now", title=f"Catalog {snapshot.version}"
    )
    for tier in snapshot.tiers.values():
        for index, deployment in enumerate((*tier.deployments, *tier.fallback)):
            stand_in = " (stand-in)" if index >= len(tier.deployments) else ""
            name = tier.name if index == 0 else ""
            tiers.add_row(name, deployment.name + stand_in, deployment.upstream_id, usable_now(deployment))
    console.print(tiers)
    providers = Table("provider", "adapter", "base URL", "usable now")
    for provider in snapshot.providers.values():
        providers.add_row(provider.name, provider.adapter, provider.base_url, provider.unavailable or "yes")
    console.print(providers)


@app.command()
def schema(write: Output = None) -> None:
    """Print the JSON Schema of the document, for editors."""
    _emit(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode() + "\n", write)


@app.command()
def reference(write: Output = None) -> None:
    """Print the description of every field, as docs/catalog.md has it."""
    _emit(render_reference(), write)


def wide_console() -> Console:
    """A console as wide as the terminal, or wide enough for tables where the output is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def usable_now(deployment: Deployment) -> str:
    """`yes`, or why no request can go there now."""
    if deployment.model.status not in ("enabled", "deprecated"):
        return f"model is {deployment.model.status}"
    return deployment.provider.unavailable or "yes"


def _emit(text: str, write: Path | None) -> None:
    if write is None:
        typer.echo(text, nl=False)
    else:
        write.write_text(text, encoding="utf-8")
