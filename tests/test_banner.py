"""What a start prints for the person at the terminal."""

from __future__ import annotations

import re
import shlex

import typer.main

from gateway.banner import banner
from gateway.cli.main import app
from gateway.settings import Settings


def test_the_command_offered_for_a_new_key_is_one_that_the_command_line_takes() -> None:
    """A restart shows no app key; the command it prints instead parses."""
    offered = re.search(r"tiergate (keys create .*)", banner(Settings(app_key=None), None, None))
    assert offered is not None
    group, verb, *arguments = shlex.split(offered[1])
    keys = typer.main.get_command(app).commands[group]  # type: ignore[attr-defined]  # a group, as every folder of commands
    context = keys.commands[verb].make_context(verb, arguments)
    assert context.params["name"] == "my-app"
