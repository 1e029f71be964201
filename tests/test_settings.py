"""Settings from the environment."""

from __future__ import annotations

import pytest

from gateway.settings import Settings, slips


def test_a_link_of_kubernetes_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service of our name sets it in every pod; a port is one all the same."""
    monkeypatch.setenv("TIERGATE_PORT", "tcp://10.0.0.1:80")
    assert Settings().port == 4000
    monkeypatch.setenv("TIERGATE_PORT", "4001")
    assert Settings().port == 4001


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TIERGATE_WORKER", "TIERGATE_WORKERS"),
        ("TIERGATE_LOGLEVEL", "TIERGATE_LOG_LEVEL"),
        ("tiergate_data_dirs", "TIERGATE_DATA_DIR"),
        ("TIERGATE_WORKERS", None),
        ("tiergate_port", None),
        ("TIERGATE_SERVICE_PORT", None),
        ("TIERGATE_PORT_4000_TCP", None),
        ("TIERGATE_URL", None),
        ("TIERGATE_BENCH", None),
        ("WORKERS", None),
    ],
)
def test_slips_are_noticed(name: str, meant: str | None) -> None:
    """What is nearly a setting, and nothing that others set."""
    assert slips([name]) == ([] if meant is None else [(name, meant)])
