"""What a serving process asks of the system."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_FAULTS = """
import resource
from gateway.server import _keep_free_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        bodies = [b"x" * 100_000 for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

by_default = faults()
_keep_free_memory()
faults()
print(by_default, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_the_memory_of_long_bodies_is_used_again() -> None:
    """It is not given back after each, to be zeroed anew page by page."""
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, timeout=60, check=True)
    by_default, kept = map(int, done.stdout.split())
    assert kept < by_default / 10


_STOPPED_EARLY = """
import os, signal, socket, subprocess, sys
from gateway import server
from gateway.settings import Settings

class Worker(subprocess.Popen):
    def __init__(self, command, **options):
        if sys.argv[1] == "before":
            os.kill(os.getpid(), signal.SIGTERM)
        super().__init__(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        print(self.pid, flush=True)
        if sys.argv[1] == "after":
            os.kill(os.getpid(), signal.SIGTERM)

subprocess.Popen = Worker
sys.exit(server._Supervisor(Settings(workers=2), socket.create_server(("127.0.0.1", 0))).run())
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_stop_while_workers_are_being_started(moment: str) -> None:
    """The signal comes just before or after the first one is there: it is ended, no more are started, all is well."""
    command = [sys.executable, "-c", _STOPPED_EARLY, moment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said, complaints = process.communicate(timeout=30)
    workers = [int(pid) for pid in said.split()]
    left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert (process.returncode, complaints, len(workers), left) == (0, "", 1, [])
