"""The `tiergate` command, also `python -m gateway.cli`."""

from __future__ import annotations

import gc


def main() -> None:
    """Runs it. What the modules make is no garbage: looking through it is a sixth of the time until it starts."""
    gc.disable()
    from gateway.cli.main import app

    gc.freeze()
    gc.enable()
    app()


if __name__ == "__main__":
    main()
