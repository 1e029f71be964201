"""Running the gateway: one process, or a parent that keeps several workers alive on one listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from types import FrameType

import uvicorn

from gateway.app import Application, create_app
from gateway.banner import QUIET
from gateway.log import configure_logging, get_logger
from gateway.protocol import Protocol
from gateway.settings import Settings

_BACKLOG = 4096
_OTHER_FILES = 512
"""Files of a worker beside its requests' sockets."""
_RESTART_S = 1.0
_GRACE_S = 15.0
"""What a worker gets beyond its drain deadline to settle and flush before it is killed."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""glibc's names of its settings. Source: https://man7.org/linux/man-pages/man3/mallopt.3.html (read 2026-11-21)."""
_KEPT_FREE_BYTES = 32 * 1024 * 1024
_APART_BYTES = 4 * 1024 * 1024
"""Pieces of memory from this size on are given back as soon as they are free."""

TAKE_TURNS_S = 0.0005
"""How long the loop's thread waits at most for one that is busy, with a catalog or an archive. Python's own 5 ms would
be felt by requests, which wait for it several times; the busy one takes hardly longer for it."""

_COLLECT_AFTER = 20_000, 50, 50
"""Python's own thresholds (700, 10, 10) have the collector run for every other request, over what cannot be garbage."""

log = get_logger("server")


class GracefulServer(uvicorn.Server):
    """A server that, once told to stop, first says so on /readyz, then closes; its exit status is 0.

    uvicorn's own server raises the signal again when it has stopped, so that an orderly stop looks like a crash.
    """

    def __init__(self, config: uvicorn.Config, app: Application, settings: Settings, parent: int | None = None) -> None:
        """`parent` is the reading end of a pipe whose other end closes when the supervisor is gone."""
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._parent = parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to serve; what is there by then, modules and catalog, stays, and the collector need not look at it."""
        await super().startup(sockets=sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
        if self._parent is not None:
            asyncio.get_running_loop().add_reader(self._parent, self._parent_gone, self._parent)

    def _parent_gone(self, parent: int) -> None:
        """The supervisor was killed: nobody would replace or stop this worker, and it would keep the port."""
        asyncio.get_running_loop().remove_reader(parent)
        log.error("supervisor_gone", pid=os.getpid())
        self.handle_exit(signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        gateway = getattr(self._app.state, "gateway", None)
        if gateway is None or gateway.draining or not self._settings.drain_delay_s:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True
        else:
            asyncio.get_running_loop().call_later(self._settings.drain_delay_s, setattr, self, "should_exit", True)
        if gateway is not None:
            gateway.draining = True


def run(settings: Settings) -> int:
    """Serves until told to stop; gives the exit status."""
    listener = _listen(settings)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    if settings.workers == 1:
        return run_worker(settings, listener)
    return _Supervisor(settings, listener).run()


def run_worker(settings: Settings, listener: socket.socket, parent: int | None = None) -> int:
    """Serves in this process on a socket that already listens; `parent` as for `GracefulServer`."""
    _allow_open_files(2 * settings.max_inflight + _OTHER_FILES)
    _keep_free_memory()
    sys.setswitchinterval(TAKE_TURNS_S)
    configure_logging(settings.log_level, settings.log_format)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=Protocol,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.drain_deadline_s),
        backlog=_BACKLOG,
    )
    server = GracefulServer(config, app, settings, parent)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _allow_open_files(wanted: int) -> None:
    """Has the system let this process open so many, as far as it may say so itself.

    Each request takes a socket on either side; many systems allow 1,024 at first, for the sake of programs that use
    select().
    """
    if sys.platform == "win32":
        return
    import resource  # not there on Windows

    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _keep_free_memory() -> None:
    """Has glibc keep what a long request leaves free for the next one.

    By default it gives the end of its heap back to the system whenever 128 KB of it are free, and has it zeroed again,
    page by page, for the next request: a tenth of the CPU of one of 100 KB. Other libraries of C do not know the call.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _APART_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        option = "--port or TIERGATE_PORT" if taken else "--host or TIERGATE_HOST"
        raise SystemExit(
            f"tiergate: cannot listen on {place}: {error.strerror}. Choose another with {option}."
        ) from None
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


class _Supervisor:
    """The parent of several workers: starts them, starts them again when they die, and passes signals on."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: list[subprocess.Popen[bytes]] = []
        self._stopping = False
        self._told: set[int] = set()
        self._metrics = tempfile.TemporaryDirectory(prefix="tiergate-metrics-")
        # Nothing is ever written: workers see the reading end closed once this process is gone, however it ended.
        self._alive, self._kept_open = os.pipe()

    def run(self) -> int:
        configure_logging(self._settings.log_level, self._settings.log_format)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._forward)
        with self._metrics:
            places = range(self._settings.workers)
            self._workers = [worker for place in places if (worker := self._start(place)) is not None]
            while not self._stopping:
                time.sleep(_RESTART_S)
                for place, worker in enumerate(self._workers):
                    if not self._stopping and worker.poll() is not None:
                        if worker.returncode == 1:
                            log.error("worker_failed_to_start", pid=worker.pid)
                            self._stop(signal.SIGTERM, None)
                            return self._join() or 1
                        log.error("worker_died", pid=worker.pid, status=worker.returncode)
                        self._workers[place] = self._start() or worker
            return self._join()

    def _start(self, place: int | None = None) -> subprocess.Popen[bytes] | None:
        """Starts a worker, or none once told to stop.

        Only the one that has the first place from the beginning greets the person at the terminal. Each gets a process
        group of its own, so that Ctrl-C reaches it as our SIGTERM, whatever it is doing.
        """
        try:
            listener = self._listener.dup()  # a signal to stop closes ours at any moment
        except OSError:
            return None
        with listener:
            descriptor = listener.fileno()
            environment = {
                **os.environ,
                "TIERGATE_WORKER_FD": str(descriptor),
                "TIERGATE_WORKER_PARENT_FD": str(self._alive),
                "TIERGATE_WORKER_SETTINGS": self._settings.model_dump_json(exclude=_SECRETS),
                "PROMETHEUS_MULTIPROC_DIR": self._metrics.name,
                **({} if place == 0 else {QUIET: "1"}),
            }
            return subprocess.Popen(
                [sys.executable, "-m", "gateway.server"],
                env=environment,
                pass_fds=[descriptor, self._alive],
                process_group=0,
            )

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._listener.close()  # else callers would be let into a queue that no worker looks at any more
        self._end_workers()

    def _end_workers(self) -> None:
        """Tells each worker once: a second signal would cut its drain delay short."""
        for worker in self._workers:
            if worker.pid not in self._told and worker.poll() is None:
                self._told.add(worker.pid)
                worker.send_signal(signal.SIGTERM)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)

    def _join(self) -> int:
        patience = self._settings.drain_delay_s + self._settings.drain_deadline_s + _GRACE_S
        deadline = time.monotonic() + patience
        self._end_workers()  # those that were being started when the signal came
        for worker in self._workers:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker_killed", pid=worker.pid, after_s=patience)
                worker.kill()
                worker.wait()
        # A worker that was still starting had nothing to drain and was ended by the signal itself.
        orderly = (0, -signal.SIGTERM)
        return max((0 if w.returncode in orderly else abs(w.returncode) for w in self._workers), default=0)


# Secrets reach a worker through the environment that its parent read them from, never through arguments.
_SECRETS = {"redis_url", "admin_token", "app_key", "pepper", "alert_secret"}


def _worker_main() -> int:
    listener = socket.socket(fileno=int(os.environ["TIERGATE_WORKER_FD"]))
    listener.setblocking(False)
    listener.set_inheritable(False)  # else the embedded store, which outlives a killed worker, keeps the port
    parent = int(os.environ["TIERGATE_WORKER_PARENT_FD"])
    os.set_inheritable(parent, False)
    given = Settings.model_validate_json(os.environ["TIERGATE_WORKER_SETTINGS"])
    secrets = Settings().model_dump(include=_SECRETS)
    return run_worker(given.model_copy(update=secrets), listener, parent)


if __name__ == "__main__":
    sys.exit(_worker_main())
