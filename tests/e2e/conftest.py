"""What the tests share: a server, a client of its own for each rig, and their stories when a test has failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .client import Client
from .clock import FastClock, build_fast_clock
from .project import AppVersion, Job
from .scheduler import Report
from .server import ProjectServer

T = TypeVar("T")

_URGE_EVERY_S = 2.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an end-to-end test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@dataclass
class Rig:
    """A project server, and a client that is attached to it."""

    server: ProjectServer
    client: Client

    def urged(self, condition: Callable[[], T], what: str) -> T:
        """Wait until `condition` returns something true; meanwhile the client, which likes to wait, is urged to ask."""
        urged = time.monotonic()

        def holds() -> T:
            nonlocal urged
            if not (found := condition()) and time.monotonic() - urged > _URGE_EVERY_S:
                self.client.update()
                urged = time.monotonic()
            return found

        return self.client.wait(holds, what)

    def hand_out(self, job: Job) -> Job:
        """Submit a job, and wait until the client has it."""
        self.server.submit(job)
        self.client.update()
        self.urged(lambda: self.client.result(job.result), f"{job.result} is at the client")
        return job

    def reported(self, job: Job) -> Report:
        """Wait until a job is over and the server knows: after an error the client would wait minutes to say so."""
        report = self.urged(lambda: self.server.report(job.result), f"{job.result} is reported")
        assert report is not None
        return report

    def output(self, job: Job, logical: str) -> bytes | None:
        """Return an output that was uploaded."""
        return self.server.uploaded(job.output_file(logical))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what server and client have to tell to the report of a failure."""
    report = yield
    if report.failed:
        for rig in _rigs:
            report.sections.append(("what the server saw", rig.server.log()))
            report.sections.append(("what the client says", rig.client.story()))
    return report


_rigs: list[Rig] = []
"""Those that are alive; for the report of a failure."""


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> FastClock:
    """The client's fast clock, compiled."""
    return FastClock(build_fast_clock(tmp_path_factory.mktemp("clock")), time.time())


@contextmanager
def open_rig(
    clock: FastClock,
    folder: Path,
    *versions: AppVersion,
    jobs: tuple[Job, ...] = (),
    anonymous: AppVersion | None = None,
    **settings: Any,
) -> Iterator[Rig]:
    """A server that offers `versions` and has `jobs`, and a started client that is attached to it, for a block.

    `anonymous` is a version that the client's owner has built; `settings` are those of `Client`. The logs of both are
    left in `folder`.
    """
    with ProjectServer(clock.now) as server:
        for version in versions:
            server.add_version(version)
        for job in jobs:
            server.submit(job)
        client = Client(server, clock, folder / "client.log", **settings)
        rig = Rig(server, client)
        _rigs.append(rig)
        try:
            if anonymous is not None:
                client.install_anonymous(anonymous)
            client.start()
            yield rig
        finally:
            client.close()
            (folder / "server.log").write_text(server.log())
            _rigs.remove(rig)
