"""The `tiergate` command: every command group, registered by name."""

from __future__ import annotations

import typer

from gateway.cli import catalog, models
from gateway.cli.explain import explain
from gateway.cli.serve import serve

app = typer.Typer(
    name="tiergate",
    help="An OpenAI-compatible LLM gateway: tiers, exact money, routing that explains itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(explain)
app.add_typer(catalog.app, name="catalog")
app.add_typer(models.app, name="models")


def main() -> None:
    app()
