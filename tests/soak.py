"""Whether tests run at the sizes and against the bounds that their cases name, as `make soak` has them run."""

from __future__ import annotations

import os

SOAK = bool(os.environ.get("TIERGATE_SOAK"))
"""Otherwise they are small enough to run with every change, and have patience with a machine that does much else."""
