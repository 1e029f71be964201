"""Alerts reach the webhook signed, once, and again and again until it takes them."""

from __future__ import annotations

import hmac
import json
import random
from collections.abc import Mapping
from hashlib import sha256

import pytest
from books import until
from clocks import SetClock

from gateway.admin.alerts import TRIES, Alerts
from gateway.errors import Kind, UpstreamError
from gateway.ledger.outbox import Alert
from gateway.telemetry.metrics import Metrics

ALERT = Alert("main", "budget", "b:r-search:202611", 80, 400_000_000_000, 500_000_000_000)


class Webhook:
    """Answers as told, then well; an exception is raised."""

    def __init__(self, *answers: int | Exception) -> None:
        self.calls: list[tuple[str, bytes, Mapping[str, str]]] = []
        self._answers = list(answers)

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.calls.append((url, body, headers))
        answer = self._answers.pop(0) if self._answers else 204
        if isinstance(answer, Exception):
            raise answer
        return answer


def alerts(clock: SetClock, metrics: Metrics, secret: str | None = "a secret") -> Alerts:
    return Alerts("https://hooks.test/x", secret, metrics, clock=clock, chance=random.Random(1), pause_s=0.001)


async def test_an_alert_is_posted_with_a_signature_over_time_and_body(clock: SetClock) -> None:
    """And counted; its receiver can tell that it is ours and not an old one."""
    metrics, webhook = Metrics(), Webhook()
    teller = alerts(clock, metrics)
    await teller.start(webhook)
    teller.tell(ALERT)
    await until(lambda: len(webhook.calls) == 1)
    await teller.close()
    ((url, body, headers),) = webhook.calls
    told = json.loads(body)
    assert url == "https://hooks.test/x"
    assert (told["kind"], told["percent"], told["spent_usd"], told["limit_usd"]) == ("budget", 80, "400.00", "500.00")
    at, signature = (part.partition("=")[2] for part in headers["x-tiergate-signature"].split(","))
    assert int(at) == int(clock())
    assert signature == hmac.new(b"a secret", f"{at}.".encode() + body, sha256).hexdigest()
    assert metrics.registry.get_sample_value("tiergate_budget_alerts_total", {"kind": "budget", "percent": "80"}) == 1


@pytest.mark.parametrize(
    "failures",
    [(500,), (302, 429), (UpstreamError(Kind.UNREACHABLE, "away"), 503), (ValueError("nobody thought of it"),)],
)
async def test_a_webhook_that_fails_is_tried_again(clock: SetClock, failures: tuple[int | Exception, ...]) -> None:
    """Until it takes the alert, and then no more."""
    webhook = Webhook(*failures)
    teller = alerts(clock, Metrics())
    await teller.start(webhook)
    teller.tell(ALERT)
    teller.tell(Alert("main", "conflict", "an attempt"))
    await until(lambda: len(webhook.calls) == len(failures) + 2)
    await teller.close()
    assert json.loads(webhook.calls[-1][1])["kind"] == "conflict"
    assert len({body for _, body, _ in webhook.calls}) == 2


async def test_a_dead_webhook_does_not_hold_up_the_next_alert_for_ever(clock: SetClock) -> None:
    """After some tries an alert is left to the log."""
    webhook = Webhook(*[500] * TRIES)
    teller = alerts(clock, Metrics(), secret=None)
    await teller.start(webhook)
    teller.tell(ALERT)
    teller.tell(ALERT)
    await until(lambda: len(webhook.calls) == TRIES + 1)
    await teller.close()
    assert "x-tiergate-signature" not in webhook.calls[0][2]


async def test_without_a_webhook_the_log_is_told(clock: SetClock) -> None:
    """And nothing waits for ever."""
    teller = Alerts(None, None, Metrics(), clock=clock, chance=random.Random(1))
    await teller.start(Webhook())
    for _ in range(2_000):
        teller.tell(ALERT)
    await teller.close()


async def test_an_alert_is_told_once_the_webhook_took_it(clock: SetClock) -> None:
    """Or all tries are over; until then its threshold is kept in the store. Without a webhook the log is enough."""
    teller = alerts(clock, Metrics())
    await teller.start(Webhook(500, *[204] * 1, *[500] * TRIES))
    first, second = teller.tell(ALERT), teller.tell(ALERT)
    assert first is not None and second is not None
    assert not first.done()
    await until(first.done)
    await until(second.done)
    await teller.close()
    waiting = teller.tell(ALERT)
    assert waiting is not None and not waiting.done()
    nobody = Alerts(None, None, Metrics(), clock=clock, chance=random.Random(1))
    assert nobody.tell(ALERT) is None
