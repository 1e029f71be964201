"""What there is, is documented: settings, errors, commands, catalog fields, make targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.text import Text

from gateway.catalog.schema import CatalogEntry
from gateway.cli.main import app
from gateway.cli.serve import serve
from gateway.errors import SPECS, Kind
from gateway.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def text_of(*paths: str) -> str:
    return "\n".join((ROOT / path).read_text() for path in paths)


# ------------------------------------------------------------------------------------------------------------ settings


def settings_table() -> str:
    """The table of docs/settings.md, from the settings themselves."""
    options = set(serve.__annotations__) - {"return"}
    rows = ["| variable | `tiergate serve` | default | meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        assert default is not PydanticUndefined, f"{name} has no default: the gateway must start without settings"
        shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        variable = f"`TIERGATE_{name.upper()}`" + (" or `REDIS_URL`" if name == "redis_url" else "")
        option = f"`--{name.replace('_', '-')}`" if name in options else ""
        rows.append(f"| {variable} | {option} | {shown} | {field.description} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_that_of_the_settings() -> None:
    """docs/settings.md holds the table as it is made; where this fails, put the new one in its place."""
    assert settings_table() in text_of("docs/settings.md")


def test_every_environment_variable_is_documented() -> None:
    """Also those that only commands read; what the supervisor tells its workers is nobody's setting."""
    named = {
        name
        for folder in ("gateway", "adapters", "policies")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\bTIERGATE_[A-Z_]+[A-Z]\b", path.read_text())
    }
    told = text_of("docs/settings.md")
    assert [n for n in sorted(named) if f"`{n}`" not in told and not n.startswith("TIERGATE_WORKER_")] == []


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", list(Kind))
def test_every_error_is_documented_as_it_is(kind: Kind) -> None:
    """One row a kind, with its status, type and code, and what it means."""
    spec = SPECS[kind]
    rows = [line for line in text_of("docs/errors.md").splitlines() if line.startswith(f"| `{kind.value}` |")]
    assert len(rows) == 1
    _, name, status, kind_of_error, code, meaning, *_ = (cell.strip() for cell in rows[0].split("|"))
    assert name == f"`{kind.value}`"
    assert (status, kind_of_error) == (str(spec.status), f"`{spec.type}`")
    assert code == (f"`{spec.code}`" if spec.code else "")
    assert meaning.endswith(".")


# ------------------------------------------------------------------------------------------------------------ commands


def commands(command: Any, path: str = "tiergate") -> Iterator[tuple[str, Any]]:
    """Every command that can be run, with its words: click's objects, as typer makes them."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
    else:
        if command.invoke_without_command:
            yield path, command
        for name, child in subcommands.items():
            yield from commands(child, f"{path} {name}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def commands_table() -> str:
    """The table of docs/commands.md, from the commands themselves."""
    rows = [f"| `{words}` | {first_line(command.help)} |" for words, command in COMMANDS.items()]
    return "\n".join(["| command | does |", "|---|---|", *rows])


def first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0].replace("<", "&lt;")


def test_the_table_of_commands_is_that_of_the_commands() -> None:
    """docs/commands.md holds the table as it is made; where this fails, put the new one in its place."""
    assert commands_table() in text_of("docs/commands.md")


@pytest.mark.parametrize("words", list(COMMANDS))
def test_every_command_explains_itself(words: str) -> None:
    """It and each of its options have a help text, of which nothing is taken for markup and left out."""
    command = COMMANDS[words]
    assert first_line(command.help).endswith(".")
    options = [p for p in command.params if p.param_type_name == "option"]
    assert [option.name for option in options if not option.help] == []
    texts = [command.help, *(option.help for option in options)]
    assert [text for text in texts if Text.from_markup(text).plain != text.replace("\\[", "[")] == []


@pytest.mark.parametrize("words", re.findall(r"`(tiergate [a-z]+(?: [a-z]+)?)", text_of("README.md")))
def test_the_readme_names_commands_that_exist(words: str) -> None:
    """No command of the README is gone or misspelt."""
    assert any(
        command == words or command.startswith(f"{words} ") or words.startswith(f"{command} ") for command in COMMANDS
    )


# ------------------------------------------------------------------------------------------------------------- catalog


def entries_of(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[type[BaseModel], str]]:
    """Every field of the catalog document, however deep."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield model, field.alias or name
        for inner in inner_models(field.annotation):
            yield from entries_of(inner, seen)


def inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from inner_models(argument)


def test_every_catalog_field_is_documented() -> None:
    """docs/catalog.md has a row for each field, and the schema describes it."""
    told = text_of("docs/catalog.md")
    missing = [f"{m.__name__}.{name}" for m, name in entries_of(CatalogEntry, set()) if f"| `{name}`" not in told]
    assert missing == []


# ---------------------------------------------------------------------------------------------------------------- make


def test_every_make_target_has_a_help_line() -> None:
    """`make` alone lists them all."""
    makefile = text_of("Makefile")
    phony = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    targets = {name for line in phony for name in line.split()}
    helped = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert targets == helped


def test_links_lead_somewhere() -> None:
    """Every relative link of README and docs names a file that exists."""
    links = [
        (path, target)
        for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md"))
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
        if "://" not in target
    ]
    assert [
        f"{path.relative_to(ROOT)} -> {target}" for path, target in links if not (path.parent / target).exists()
    ] == []
