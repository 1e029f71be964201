"""The recorded provider traffic through a running gateway: requests, answers, streams, errors as clients see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import APP_KEY, ROOT, free_port, running_gateway

SHARED = Path(os.environ.get("TIERGATE_WIRE", ROOT.parent / "shared" / "wire")).parent
TOOLS = SHARED / "tools"
MODES = os.environ.get("TIERGATE_WIRE_MODES", "event split").split()
pytestmark = [
    pytest.mark.skipif(not (TOOLS / "run_wire.py").exists(), reason="the recorded traffic is not beside this checkout"),
    pytest.mark.timeout(1800),
]

CAPABILITIES = (
    "text_input, image_input, audio_input, video_input, document_input, text_output, image_output, audio_output, "
    "structured_output, function_calling, parallel_tool_calls, json_mode, streaming, extended_thinking, "
    "system_messages, logprobs, multiple_choices, prompt_caching"
)
DIALECT = {  # folder of the recordings -> adapter, and what its base URL ends with
    "openai": ("openai", "/v1"),
    "azure": ("azure", ""),
    "openrouter": ("openrouter", "/api/v1"),
    "mistral": ("mistral", "/v1"),
    "xai": ("xai", "/v1"),
    "groq": ("groq", "/openai/v1"),
    "deepseek": ("deepseek", ""),
    "fireworks": ("fireworks", "/v1"),
    "compat": ("openai", "/v1"),
    "gemini": ("openai", "/v1beta/openai"),
    "ollama": ("openai", "/v1"),
}
NATIVE = {"anthropic": ("anthropic", "/v1"), "gemini": ("gemini", "/v1beta"), "ollama": ("ollama", "")}
RUNS = [
    ("openai.chat", DIALECT),
    ("anthropic.messages", NATIVE),
    ("gemini.generateContent", NATIVE),
    ("gemini.streamGenerateContent", NATIVE),
    ("ollama.chat", NATIVE),
]


def catalog(replay: str) -> str:
    """A catalog with a model for each folder and dialect, all played by the replaying server."""
    rows = [
        (f"{name}-{kind}", *at, name) for kind, table in (("d", DIALECT), ("n", NATIVE)) for name, at in table.items()
    ]
    limits = "timeouts: {first_byte_s: 2, idle_s: 1}"
    lines = ["providers:"]
    lines += [
        f"  {name}: {{adapter: {adapter}, base_url: '{replay}/s/{folder}{suffix}', api_key: env:REPLAY_KEY, "
        f"allow_private: true, retries: 0, breaker: false, {limits}}}"
        for name, adapter, suffix, folder in rows
    ]
    lines.append("models:")
    for name, *_ in rows:
        lines.append(f"  m-{name}:")
        lines.append(f"    {{capabilities: [{CAPABILITIES}], deployments: [{{provider: {name}, id: m}}]}}")
    lines.append("tiers: {any: {models: [m-openai-d]}}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def replay() -> Iterator[str]:
    """The server that plays the providers; its address."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, str(TOOLS / "replay.py"), "--port", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/_ctl/ids", timeout=5).close()
                break
            except OSError:
                time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def base_url(replay: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway whose every provider is the replaying server."""
    folder = tmp_path_factory.mktemp("recorded")
    path = folder / "catalog.yaml"
    path.write_text(catalog(replay))
    with running_gateway(folder, catalog=path, env={"REPLAY_KEY": "replay-key-000000000000"}) as gateway:
        yield gateway.base_url


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("api", "table"), RUNS, ids=[api for api, _ in RUNS])
def test_recorded_traffic(
    api: str, table: dict[str, tuple[str, str]], mode: str, replay: str, base_url: str, tmp_path: Path
) -> None:
    """Every exchange comes out right, but for those named with their reason in wire_exceptions.toml."""
    kind = "d" if table is DIALECT else "n"
    out = tmp_path / "failures.json"
    command = [sys.executable, str(TOOLS / "run_wire.py"), "--gateway", base_url, "--key", APP_KEY]
    command += ["--replay", replay, "--api", api, "--mode", mode, "--json", str(out)]
    for folder in table:
        command += ["--model", f"{folder}=m-{folder}-{kind}"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=TOOLS, timeout=1700, check=False)
    assert "passed" in ran.stdout, ran.stdout + ran.stderr
    excused = tomllib.loads((ROOT / "tests" / "wire_exceptions.toml").read_text())
    failures = [f"{row['id']} [{mode}] {row['kind']}: {row['what']}" for row in json.loads(out.read_text())]
    assert [line for line in failures if line.partition(" ")[0] not in excused] == []
