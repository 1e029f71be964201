"""What the books keep of a request beyond its cost."""

from __future__ import annotations

import answers
import pytest
from fakes import json_reply
from running import RunningGateway
from scenes import Scene
from talk import chat, entries


def test_an_entry_names_the_providers_request(gateway: RunningGateway, scene: Scene) -> None:
    """So that a bill which knows no other name can be checked against it."""
    scene.script(json_reply(answers.completion(), x_request_id="up-7"))
    (entry,) = entries(gateway, chat(gateway, scene.tier).request_id)
    assert entry["upstream_request_id"] == "up-7"


@pytest.mark.parametrize(("header", "counted"), [("2", 2), ("0", 0), ("-1", 0), ("9999", 0), ("x", 0)])
def test_an_sdks_repetitions_are_counted(gateway: RunningGateway, scene: Scene, header: str, counted: int) -> None:
    """OpenAI's and Anthropic's SDKs say in a header how often they have tried; anything else counts for nothing."""
    answer = chat(gateway, scene.tier, headers={"x-stainless-retry-count": header})
    (entry,) = entries(gateway, answer.request_id)
    assert entry["sdk_retry"] == counted
