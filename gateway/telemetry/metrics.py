"""The Prometheus metrics of this process. Label values come from the catalog or closed sets, never from callers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.telemetry.timings import BOUNDS_S, Timings


class Metrics:
    """Every metric the gateway keeps, in a registry of its own so that importing has no effect."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.requests = Counter(
            "tiergate_requests", "Requests answered.", ["tier", "status", "stream"], registry=self.registry
        )
        self.seconds = Timings(
            "tiergate_request_seconds",
            "From the request's head to the last byte of the answer.",
            ["tier"],
            buckets=BOUNDS_S,
            registry=self.registry,
        )
        self.first_byte_seconds = Timings(
            "tiergate_first_byte_seconds",
            "From the request's head to the first byte of the provider's answer.",
            ["tier"],
            buckets=BOUNDS_S,
            registry=self.registry,
        )
        self.attempts = Counter(
            "tiergate_attempts",
            "Upstream attempts by outcome: complete, caller_left, upstream_cut, deadline, failed, void.",
            ["deployment", "settlement"],
            registry=self.registry,
        )
        self.tokens = Counter("tiergate_tokens", "Tokens by direction.", ["model", "direction"], registry=self.registry)
        self.cost = Counter(
            "tiergate_cost_nano_usd", "Cost booked, in nano-USD.", ["tier", "provider"], registry=self.registry
        )
        self.budget_alerts = Counter(
            "tiergate_budget_alerts",
            "What the ledger's people should hear of: budget (with the percentage passed), conflict, quarantine, "
            "journal.",
            ["kind", "percent"],
            registry=self.registry,
        )
        self.catalog_alerts = Counter(
            "tiergate_catalog_alerts",
            "What people should hear of the catalog: model_vanished, a model that carried traffic is listed no longer.",
            ["kind", "deployment"],
            registry=self.registry,
        )
        self.credential_alerts = Counter(
            "tiergate_credential_alerts",
            "How often a provider began to refuse its credential or quota.",
            ["provider"],
            registry=self.registry,
        )
        self.inflight = Gauge(
            "tiergate_inflight_requests", "Requests being served.", registry=self.registry, multiprocess_mode="sum"
        )
        self.journal_records = Gauge(
            "tiergate_journal_records",
            "Records of the longest journal that is still in the store.",
            registry=self.registry,
            multiprocess_mode="max",
        )
        self.breaker_transitions = Counter(
            "tiergate_breaker_transitions", "Breaker state changes.", ["deployment", "state"], registry=self.registry
        )
        self.catalog_reloads = Counter(
            "tiergate_catalog_reloads", "Catalog documents seen, by result.", ["result"], registry=self.registry
        )
        self.shadows = Counter(
            "tiergate_shadows",
            "Requests to copy to another deployment: begun, or left out because too many were under way (busy).",
            ["experiment", "outcome"],
            registry=self.registry,
        )
        self.log_lines_dropped = Counter(
            "tiergate_log_lines_dropped", "Request log lines that could not be written.", registry=self.registry
        )
