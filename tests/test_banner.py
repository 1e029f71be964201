"""What a start prints for the person at the terminal."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import typer.main

from gateway.banner import banner
from gateway.cli.main import app
from gateway.settings import Settings
from gateway.types import Secret


def test_the_command_offered_for_a_new_key_is_one_that_the_command_line_takes() -> None:
    """A restart shows no app key; the command it prints instead parses."""
    offered = re.search(r"tiergate (keys create .*)", banner(Settings(app_key=None), None, None))
    assert offered is not None
    group, verb, *arguments = shlex.split(offered[1])
    keys = typer.main.get_command(app).commands[group]  # type: ignore[attr-defined]  # a group, as every folder of commands
    context = keys.commands[verb].make_context(verb, arguments)
    assert context.params["name"] == "my-app"


def test_the_request_offered_is_one_that_a_shell_sends() -> None:
    """The key stands in it, or the variable that holds it where the shell puts the key in its place."""
    for settings, key in (
        (Settings(app_key=None), Secret("gw1_made")),
        (Settings(app_key="given-by-the-operator"), None),
    ):
        offered = banner(settings, key, None).partition("Try it:\n")[2].partition("\n\n")[0]
        script = offered.replace("curl", "printf '%s\\n'", 1)
        env = {"TIERGATE_APP_KEY": "given-by-the-operator"}
        said = subprocess.run(["/bin/sh", "-c", script], env=env, capture_output=True, text=True, check=True).stdout
        assert f"Authorization: Bearer {key.reveal() if key else 'given-by-the-operator'}\n" in said
        assert json.loads(said.splitlines()[-1])["model"] == "fast"
