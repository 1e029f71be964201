"""`tiergate keys`: the keys of a running gateway."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, print_json, warn
from gateway.cli.catalog import wide_console

app = typer.Typer(help="Make, change, rotate and revoke keys.", no_args_is_help=True)

Format = Annotated[Literal["table", "json"], typer.Option("--format", help="table or json.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `tiergate keys list` shows it.")]
Team = Annotated[str | None, typer.Option(help="The team whose costs these are.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="NAME=VALUE; may be repeated.")]
Tiers = Annotated[list[str] | None, typer.Option("--tier", help="A tier it may ask for; may be repeated.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="A model that may serve it; may be repeated.")]
Denied = Annotated[list[str] | None, typer.Option("--deny-model", help="A model that may not; may be repeated.")]
Budgets = Annotated[
    list[str] | None,
    typer.Option("--budget", help="USD/PERIOD, e.g. 25/month, 25/day:soft or 25/day:local; may be repeated."),
]
Rpm = Annotated[int | None, typer.Option(help="Requests per minute.")]
Tpm = Annotated[int | None, typer.Option(help="Tokens per minute.")]
Concurrency = Annotated[int | None, typer.Option(help="Requests at once.")]
RatesOnStoreDown = Annotated[
    Literal["deny", "allow", "local"] | None,
    typer.Option(help="What becomes of requests under rpm, tpm and concurrency while the store is away."),
]
Cidrs = Annotated[list[str] | None, typer.Option("--cidr", help="A network it may be used from; may be repeated.")]
Criticality = Annotated[
    Literal["sheddable", "default", "critical"] | None, typer.Option(help="What is refused first under overload.")
]
NotBefore = Annotated[str | None, typer.Option(help="When it becomes valid, written as for --expires-at.")]
Expires = Annotated[str | None, typer.Option(help="When it ends, e.g. 2027-01-31 or 2027-01-31T12:00:00Z.")]
Role = Annotated[str | None, typer.Option(help="app, ops, finance or admin.")]

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)/(hour|day|month|total)(?::(soft|deny|allow|local))?")
_LISTS = frozenset({"tags", "denied_models", "cidrs"})


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    team: Team = None,
    tag: Tags = None,
    tier: Tiers = None,
    model: Models = None,
    deny_model: Denied = None,
    budget: Budgets = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrency: Concurrency = None,
    rates_on_store_down: RatesOnStoreDown = None,
    cidr: Cidrs = None,
    criticality: Criticality = None,
    not_before: NotBefore = None,
    expires_at: Expires = None,
    role: Role = None,
    tenant: Annotated[str | None, typer.Option(help="A new tenant to make the first admin of.")] = None,
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a key and show it, this once."""
    fields = _fields(team, tag, tier, model, deny_model, budget, rpm, tpm, concurrency, cidr, expires_at, role)
    fields |= _given(rates_on_store_down=rates_on_store_down, criticality=criticality, not_before=not_before)
    if tenant is not None:
        fields["tenant"] = tenant
    _show_secret(AdminApi(url, data_dir).ask("POST", "keys", body={"name": name, **fields}), format)


@app.command("list")
def list_keys(format: Format = "table", url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List keys with their limits."""
    answer = AdminApi(url, data_dir).ask("GET", "keys")
    if format == "json":
        print_json(answer)
        return
    table = Table("id", "name", "role", "status", "team", "tiers", "budget", "rpm", "tpm", "at once", "expires")
    for key in msgspec.json.decode(answer)["data"]:
        cells = (key["id"], key["name"], key["role"], key["status"], key["team"], _joined(key["tiers"]))
        limits = (_budget_text(key["budget"]), key["rpm"], key["tpm"], key["concurrency"], key["expires_at"])
        table.add_row(*(_cell(value) for value in (*cells, *limits)))
    wide_console().print(table)


@app.command()
def show(key_id: KeyId, format: Format = "table", url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show one key."""
    _show(AdminApi(url, data_dir).ask("GET", _path(key_id)), format)


@app.command()
def update(
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    team: Team = None,
    tag: Tags = None,
    tier: Tiers = None,
    model: Models = None,
    deny_model: Denied = None,
    budget: Budgets = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrency: Concurrency = None,
    rates_on_store_down: RatesOnStoreDown = None,
    cidr: Cidrs = None,
    criticality: Criticality = None,
    not_before: NotBefore = None,
    expires_at: Expires = None,
    role: Role = None,
    clear: Annotated[
        list[str] | None, typer.Option(help="A field to clear, e.g. rpm, budget, tiers; may be repeated.")
    ] = None,
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Change a key; what is not named stays as it is."""
    fields = _fields(team, tag, tier, model, deny_model, budget, rpm, tpm, concurrency, cidr, expires_at, role)
    fields |= _given(rates_on_store_down=rates_on_store_down, criticality=criticality, not_before=not_before)
    empty: dict[str, Any] = {field: _nothing(field) for field in clear or ()}
    named = {} if name is None else {"name": name}
    if not (fields or empty or named):
        raise typer.BadParameter("name at least one field to change")
    _show(AdminApi(url, data_dir).ask("PATCH", _path(key_id), body={**empty, **fields, **named}), format)


@app.command()
def rotate(
    key_id: KeyId,
    overlap_s: Annotated[int, typer.Option(help="Seconds for which the secret in use stays valid.")] = 3600,
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Give a key a new secret and show it, this once."""
    _show_secret(AdminApi(url, data_dir).ask("POST", _path(key_id) + "/rotate", body={"overlap_s": overlap_s}), format)


@app.command()
def revoke(
    key_id: KeyId, format: Format = "table", url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR
) -> None:
    """End a key for good, within five seconds everywhere."""
    _show(AdminApi(url, data_dir).ask("DELETE", _path(key_id)), format)


def _path(key_id: str) -> str:
    return f"keys/{quote(key_id, safe='')}"


def _fields(
    team: str | None,
    tags: list[str] | None,
    tiers: list[str] | None,
    models: list[str] | None,
    denied_models: list[str] | None,
    budgets: list[str] | None,
    rpm: int | None,
    tpm: int | None,
    concurrency: int | None,
    cidrs: list[str] | None,
    expires_at: str | None,
    role: str | None,
) -> dict[str, Any]:
    """The body's fields for the options that were given."""
    fields = {
        "team": team,
        "tags": None if tags is None else dict(_tag(text) for text in tags),
        "tiers": tiers,
        "models": models,
        "denied_models": denied_models,
        "budget": None if budgets is None else [_budget(text) for text in budgets],
        "rpm": rpm,
        "tpm": tpm,
        "concurrency": concurrency,
        "cidrs": cidrs,
        "expires_at": expires_at,
        "role": role,
    }
    return {name: value for name, value in fields.items() if value is not None and value != []}


def _given(**fields: str | None) -> dict[str, str]:
    """Those that are given."""
    return {name: value for name, value in fields.items() if value is not None}


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"--tag must be NAME=VALUE, not {text!r}")
    return name, value


def _budget(text: str) -> dict[str, Any]:
    match = _BUDGET.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"--budget must be like 25/month, 25/day:soft or 25/day:local, not {text!r}")
    usd, per, word = match.groups()
    budget = {"usd": usd, "per": per, "hard": word != "soft"}
    return budget if word in (None, "soft") else {**budget, "on_store_down": word}


def _nothing(field: str) -> dict[str, str] | list[str] | None:
    return {} if field == "tags" else [] if field in _LISTS else None


def _show_secret(answer: bytes, format: str) -> None:
    key = msgspec.json.decode(answer)
    if format == "json":
        print_json(answer)
        return
    typer.echo(f"Key {key['id']}, shown this once:", err=True)
    typer.echo(key["key"])
    warn(key)


def _show(answer: bytes, format: str) -> None:
    if format == "json":
        print_json(answer)
        return
    table, key = Table(show_header=False), msgspec.json.decode(answer)
    for name, value in key.items():
        if name == "warnings":
            continue
        text = _budget_text(value) if name == "budget" else _joined(value) if isinstance(value, list) else value
        table.add_row(name, _cell(text))
    wide_console().print(table)
    warn(key)


def _budget_text(budget: Any) -> str:
    budgets = [] if budget is None else budget if isinstance(budget, list) else [budget]
    return ", ".join(f"${b['usd']}/{b['per']}" + ("" if b["hard"] else " soft") for b in budgets)


def _joined(names: list[str] | None) -> str:
    return "all" if names is None else ", ".join(names)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{name}={text}" for name, text in value.items())
    return "" if value is None else escape(str(value))
