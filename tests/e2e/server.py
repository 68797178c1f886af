"""A project server on 127.0.0.1: master page, scheduler, downloads, uploads. It remembers every event.

One process, all in memory. The scheduler hands out each submitted job once, to whoever asks first.
"""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from .project import AppVersion, Job, ProjectFile
from .scheduler import Replier, Report, Request, TrickleUp, read_request
from .signing import signing_key
from .tags import text_of

AUTHENTICATOR = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the client did. `time` in seconds since the server's start."""

    time: float
    kind: str
    name: str


@dataclass
class _Memory:
    versions: dict[int, AppVersion] = field(default_factory=dict)
    files: dict[str, ProjectFile] = field(default_factory=dict)
    waiting: list[Job] = field(default_factory=list)
    trickles_down: list[tuple[str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    reports: dict[str, Report] = field(default_factory=dict)
    trickles_up: list[TrickleUp] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


class ProjectServer:
    """The server and what it knows; a context manager. All methods may be called from any thread.

    `client_time` tells the time of the client's clock, in seconds since 1970.
    """

    def __init__(self, client_time: Callable[[], float]) -> None:
        self._client_time = client_time
        self._memory = _Memory()
        self._changed = threading.Condition()
        self._started = time.monotonic()
        self._http = _HttpServer(self)
        self._replier = Replier(self.url, signing_key())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> ProjectServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The master URL, as in the client's account file."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/"

    @property
    def project_name(self) -> str:
        """The URL as the client writes it in names of files and folders."""
        return f"127.0.0.1_{self._http.server_address[1]}"

    # What a project's people do

    def add_version(self, version: AppVersion) -> None:
        """Offer a version of the application."""
        with self._changed:
            self._memory.versions[version.number] = version
            self._memory.files |= {file.physical: file for file in version.files}

    def submit(self, job: Job) -> Job:
        """Have a job handed out with the next reply."""
        with self._changed:
            self._memory.waiting.append(job)
            self._memory.files |= {file.physical: file for file in job.inputs}
        return job

    def trickle_down(self, result: str, text: str) -> None:
        """Have a message to a running job handed out with the next reply."""
        with self._changed:
            self._memory.trickles_down.append((result, text))

    # What came of it

    def events(self, kind: str) -> list[str]:
        """Return the names of all events of a kind, in order."""
        with self._changed:
            return [event.name for event in self._memory.events if event.kind == kind]

    def report(self, result: str) -> Report | None:
        """Return what was reported of a result; None if nothing was."""
        with self._changed:
            return self._memory.reports.get(result)

    def trickles_up(self, result: str) -> list[TrickleUp]:
        """Return the messages that came from a job."""
        with self._changed:
            return [trickle for trickle in self._memory.trickles_up if trickle.result == result]

    def uploaded(self, name: str) -> bytes | None:
        """Return an uploaded file, by its physical name."""
        with self._changed:
            return self._memory.uploads.get(name)

    def requests(self) -> list[str]:
        """Return all scheduler requests, verbatim."""
        with self._changed:
            return list(self._memory.requests)

    def log(self) -> str:
        """Return all events, and the server's own troubles, as text."""
        with self._changed:
            lines = [f"{event.time:7.2f}  {event.kind:13} {event.name}" for event in self._memory.events]
            return "\n".join([*lines, *self._memory.troubles])

    # What the client does

    def record(self, kind: str, name: str) -> None:
        """Remember an event."""
        with self._changed:
            self._memory.events.append(Event(time.monotonic() - self._started, kind, name))
            self._changed.notify_all()

    def trouble(self, text: str) -> None:
        """Remember something that should not be."""
        with self._changed:
            self._memory.troubles.append(text)

    def schedule(self, text: str) -> str:
        """Answer a scheduler request."""
        request = read_request(text, self._client_time())
        with self._changed:
            self._memory.requests.append(text)
            if request.authenticator != AUTHENTICATOR:
                self._memory.troubles.append(f"a request with another key: {request.authenticator!r}")
            jobs, self._memory.waiting = self._memory.waiting, []
            down, self._memory.trickles_down = self._memory.trickles_down, []
            wanted = {job.version for job in jobs}
            versions = [version for number, version in self._memory.versions.items() if number in wanted]
            self._memory.reports |= {report.name: report for report in request.reports}
            self._memory.trickles_up += request.trickles
        self._record_request(request, jobs)
        return self._replier.reply(request, jobs, versions, down)

    def _record_request(self, request: Request, jobs: list[Job]) -> None:
        self.record("scheduler", f"{len(request.reports)} reported, {len(jobs)} handed out")
        for trickle in request.trickles:
            self.record("trickle up", trickle.result)
        for report in request.reports:
            self.record("report", report.name)

    def file(self, name: str) -> bytes | None:
        """Return a file for download, compressed as `name.gz`; None if there is none of this name."""
        plain = name.removesuffix(".gz")
        with self._changed:
            file = self._memory.files.get(plain)
        if file is None or (name != plain and not file.gzip):
            return None
        self.record("download", plain)
        return file.read() if name == plain else file.compressed()

    def upload(self, body: bytes) -> str:
        """Answer one of the two steps of an upload: how much is there already, and the data."""
        head, data_tag, data = body.partition(b"<data>\n")
        text = head.decode(errors="replace")
        if (asked := text_of(text, "get_file_size")) is not None:
            self.record("upload size", asked)
            with self._changed:
                size = len(self._memory.uploads.get(asked, b""))
            return f"<data_server_reply>\n<status>0</status>\n<file_size>{size}</file_size>\n</data_server_reply>\n"
        name = text_of(text, "name")
        size, offset = (int(float(text_of(text, tag) or -1)) for tag in ("nbytes", "offset"))
        data = data[: size - offset]
        if name is None or not data_tag or offset < 0 or len(data) != size - offset:
            self.trouble(f"an upload that makes no sense: {text}")
            return "<data_server_reply>\n<status>-1</status>\n</data_server_reply>\n"
        with self._changed:
            self._memory.uploads[name] = self._memory.uploads.get(name, b"")[:offset] + data
        self.record("upload", name)
        return "<data_server_reply>\n<status>0</status>\n</data_server_reply>\n"


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, project: ProjectServer) -> None:
        self.project = project
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep what went wrong for the report of a test that fails for it."""
        self.project.trouble(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer

    def do_GET(self) -> None:
        project = self.server.project
        if self.path == "/":
            project.record("master page", "/")
            page = f"<html><!-- <scheduler>{project.url}scheduler</scheduler> --></html>\n"
            self._answer(page.encode(), "text/html")
        elif found := re.fullmatch(r"/download/([^/?]+)", self.path):
            content = project.file(found.group(1))
            if content is None:
                self._nothing()
            else:
                self._answer(content, "application/octet-stream")
        else:
            self._nothing()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/scheduler":
            self._answer(self.server.project.schedule(body.decode(errors="replace")).encode(), "text/xml")
        elif self.path == "/file_upload_handler":
            self._answer(self.server.project.upload(body).encode(), "text/plain")
        else:
            self._nothing()

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _nothing(self) -> None:
        self.server.project.trouble(f"asked for {self.command} {self.path}")
        self.send_error(404)

    def log_message(self, format: str, *values: object) -> None:
        """The events tell it better."""
