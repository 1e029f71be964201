"""What a start tells the person at the terminal: where the gateway listens, new credentials (once), a line to try."""

from __future__ import annotations

from gateway.settings import Settings
from gateway.types import Secret

QUIET = "TIERGATE_WORKER_QUIET"
"""Variable that tells a worker not to greet: another one does. New credentials are shown all the same."""


def banner(settings: Settings, app_key: Secret | None, admin_token: Secret | None) -> str:
    """The text. New credentials are shown in full here and nowhere else."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # compared, not bound
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    shown = app_key.reveal() if app_key else "$TIERGATE_APP_KEY"
    lines = ["", f"  Tiergate is listening on {url}", ""]
    if app_key:
        lines += ["  App key, shown this once:", f"    {app_key.reveal()}", ""]
    if admin_token:
        lines += [
            "  Admin token, shown this once:",
            f"    {admin_token.reveal()}",
            f"    (also in {settings.data_dir / 'admin-token'}, readable by you alone)",
            "",
        ]
    lines += [
        "  Try it:",
        f'    curl {url}/v1/chat/completions -H "Authorization: Bearer {shown}" \\',
        "      -H 'Content-Type: application/json' \\",
        """      -d '{"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}'""",
        "",
    ]
    if not app_key and settings.app_key is None:
        lines += ["  The app key was shown at the first start. A new one: tiergate keys create my-app", ""]
    return "\n".join(lines)
