"""Histograms of durations on the metrics page."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.timings import BOUNDS_S, Timings


def test_the_page_counts_each_duration_up_to_its_bound_and_beyond() -> None:
    """Buckets are cumulative, bounds are part of their bucket, and tiers are told apart."""
    registry = CollectorRegistry()
    timings = Timings("served_seconds", "How long.", ["tier"], buckets=BOUNDS_S, registry=registry)
    timings.labels("fast").observe_all([0.001, 0.005])
    timings.labels("fast").observe_all([0.0051, 3600.0])
    timings.labels("smart").observe_all([0.4])

    family, *_ = text_string_to_metric_families(generate_latest(registry).decode())
    samples = {(s.name, s.labels["tier"], s.labels.get("le")): s.value for s in family.samples}

    assert family.type == "histogram"
    assert samples["served_seconds_bucket", "fast", "0.005"] == 2
    assert samples["served_seconds_bucket", "fast", "0.01"] == 3
    assert samples["served_seconds_bucket", "fast", "600.0"] == 3
    assert samples["served_seconds_bucket", "fast", "+Inf"] == samples["served_seconds_count", "fast", None] == 4
    assert samples["served_seconds_sum", "fast", None] == pytest.approx(3600.0111)
    assert samples["served_seconds_bucket", "smart", "0.25"] == 0
    assert samples["served_seconds_bucket", "smart", "0.5"] == 1
    assert len(samples) == 2 * (len(BOUNDS_S) + 1 + 2)
