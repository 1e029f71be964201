"""The `tiergate` command: every command group, registered by name."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from gateway.cli import audit, budgets, catalog, decide, experiments, keys, ledger, models, prices, reconcile, versions
from gateway.cli.doctor import doctor
from gateway.cli.explain import explain
from gateway.cli.report import report
from gateway.cli.rerate import rerate
from gateway.cli.serve import serve
from gateway.cli.simulate import simulate_catalog

app = typer.Typer(
    name="tiergate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tiergate {version('tiergate')}")
        raise typer.Exit


@app.callback()
def everywhere(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """An OpenAI-compatible LLM gateway: tiers, exact money, routing that explains itself."""


app.command()(serve)
app.command()(explain)
app.command()(report)
app.command()(doctor)
versions.add_to(catalog.app)
catalog.app.command("simulate")(simulate_catalog)
app.add_typer(catalog.app, name="catalog")
decide.add_to(models.app)
app.add_typer(models.app, name="models")
prices.app.command("rerate")(rerate)
app.add_typer(prices.app, name="prices")
app.add_typer(experiments.app, name="experiments")
app.add_typer(keys.app, name="keys")
app.add_typer(budgets.app, name="budgets")
app.add_typer(ledger.app, name="ledger")
app.add_typer(reconcile.app, name="reconcile")
app.add_typer(audit.app, name="audit")
