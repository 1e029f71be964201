"""OpenAI's SDK for Node, unchanged: plain, streamed, tools, errors."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import answers
import pytest
from fakes import error_reply, json_reply, stream_reply
from running import APP_KEY, RunningGateway
from scenes import Scene

NODE = Path(__file__).parent / "node"


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """The script beside an SDK installed as the lock file says."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    for source in NODE.iterdir():
        if source.is_file():
            shutil.copy(source, tmp_path)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return tmp_path / "drive.mjs"


def test_the_node_sdk(gateway: RunningGateway, scene: Scene, driver: Path) -> None:
    """Every part of the script sees what an app of OpenAI's would."""
    events = answers.chunks("One two three")
    scene.script(
        json_reply(answers.completion("Good day.")),
        stream_reply(answers.chunks("Good day to you.")),
        stream_reply(answers.tool_chunks(("weather", ['{"place":', '"Oslo"}']), ("weather", ['{"place":"Bergen"}']))),
        stream_reply([*events[:3], 0.2, b"data: {broken\n\n"], done=False),
        error_reply(429, "rate_limit_exceeded", retry_after="7"),
    )
    scene.script_second(error_reply(429, "rate_limit_exceeded", retry_after="7"))
    command = ["node", str(driver), gateway.base_url, APP_KEY, scene.tier]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    request_id = seen["plain"].pop("requestId")
    assert request_id.startswith("req_")
    assert seen["plain"] == {"content": "Good day.", "total": 12, "deployment": scene.first_deployment}
    assert seen["streamed"] == {"content": "Good day to you.", "total": 12, "chunks": 7}
    assert seen["tooled"] == [
        {"name": "weather", "arguments": {"place": "Oslo"}},
        {"name": "weather", "arguments": {"place": "Bergen"}},
    ]
    assert (seen["broken"]["content"], seen["broken"]["name"]) == ("One two ", "APIError")
    assert {"sandbox", "claude", scene.tier} <= set(seen["models"])
    errors = {name: (seen[name]["name"], seen[name]["status"], seen[name]["code"]) for name in ERRORS}
    assert errors == ERRORS
    assert seen["bad"]["param"] == "temperature"


ERRORS = {
    "unauthenticated": ("AuthenticationError", 401, "invalid_api_key"),
    "unknown": ("NotFoundError", 404, "model_not_found"),
    "bad": ("BadRequestError", 400, None),
    "limited": ("RateLimitError", 429, "rate_limit_exceeded"),
}
