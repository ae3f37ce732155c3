"""The exporter: one `/metrics` on the host for all nodes of a lab.

It listens on loopback alone, in the host's namespace, and reads out of band,
so the emulated network does not notice it.  Prometheus finds it by the file
`paths.scrape_target` (file service discovery), which exists while it listens.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from lab.errors import LabError
from lab.observe.attempts import AttemptTally
from lab.observe.health import HealthSampler
from lab.observe.histogram import Histogram
from lab.observe.metrics.collector import LabCollector
from lab.observe.sessions import SessionTally
from lab.observe.state import ProgramState
from lab.paths import LabPaths
from lab.plan.model import Plan

LOOPBACK = "127.0.0.1"


class Exporter:
    """Serves a lab's metrics from `start` to `close`.

    `plan` and `programs` give what is running now, `timeline` how many of its
    moments there were, by outcome; they are called at each scrape, from a
    thread of the exporter's own, and must not wait.  The same holds for the
    `ferry` of the health sampler.
    """

    def __init__(
        self,
        paths: LabPaths,
        plan: Callable[[], Plan | None],
        programs: Callable[[], Mapping[str, ProgramState]],
        health: HealthSampler | None = None,
        timeline: Callable[[], Mapping[str, int]] = dict,
        *,
        lateness: Callable[[], Histogram] = lambda: Histogram.empty((1.0,)),
    ) -> None:
        self._paths = paths
        self._tally = AttemptTally()
        self.sessions = SessionTally()
        self._registry = CollectorRegistry()
        self._registry.register(
            LabCollector(
                paths,
                plan,
                programs,
                self._tally,
                health,
                timeline=timeline,
                lateness=lateness,
                sessions=self.sessions,
            )
        )
        ProcessCollector(registry=self._registry)  # the agent itself: memory, time, descriptors
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def record_attempt(self, record: Mapping[str, Any]) -> None:
        """Count a connection attempt that ended (docs/contract.md); any thread may."""
        self._tally.add(record)

    def start(self, port: int = 0) -> int:
        """Listen on loopback, on `port` or on a free one; returns the port.

        Raises LabError if the port is taken or the scrape target can't be
        written.
        """
        try:
            self._server = _Server((LOOPBACK, port), _Handler)
        except OSError as error:
            raise LabError(
                f"the exporter can't listen on {LOOPBACK}:{port}: {error.strerror}",
                remedy="choose another port, or 0 for a free one",
            ) from error
        self._server.registry = self._registry
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="exporter", daemon=True
        )
        self._thread.start()
        taken: int = self._server.server_address[1]
        try:
            self._announce(taken)
        except OSError as error:
            self.close()
            raise LabError(
                f"can't write {self._paths.scrape_target}: {error.strerror}",
                remedy="make room in the state folder (LAB_STATE_DIR)",
            ) from error
        return taken

    def close(self) -> None:
        """Stop listening and withdraw the scrape target; more than once is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._paths.scrape_target.unlink()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    def _announce(self, port: int) -> None:
        """Written whole or not at all: Prometheus reads it whenever it changes."""
        target = self._paths.scrape_target
        content = [{"targets": [f"{LOOPBACK}:{port}"], "labels": {"lab": self._paths.lab}}]
        # The name ends otherwise than the glob that Prometheus watches.
        draft = self._paths.scrape_draft
        draft.write_text(json.dumps(content) + "\n")
        os.replace(draft, target)  # noqa: PTH105 - the atomic replacement is the point


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: CollectorRegistry


class _Handler(BaseHTTPRequestHandler):
    """Answers `GET /metrics`; a thread of its own for each request."""

    timeout = 10
    server: _Server
    server_version = "lab"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path != "/metrics":
            self.send_error(404, explain="the metrics are at /metrics")
            return
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        body: bytes = encode(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A scrape every few seconds is not worth a line in the agent's log."""
