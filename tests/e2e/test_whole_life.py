"""The whole life of a task under the real client, which limits the use of the processor to a half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .clock import FastClock
from .conftest import Rig, open_rig
from .gui_rpc import SUSPENDED
from .long_life import HALF, OUTPUTS, WORD, goes_on, is_right, long_lived, restored, taken
from .machines import (
    EXIT_ABORTED_VIA_GUI,
    Science,
    begun,
    fraction_done,
    nothing_is_left,
    packaged,
    qemu,
    said,
    trickled_up,
)
from .project import AppVersion

OFTEN = {"disk_interval": 2}
"""The volunteer's "write to disk at most every", in seconds: the period of the checkpoints."""


@pytest.fixture(scope="module")
def science(tmp_path_factory: pytest.TempPathFactory) -> Science:
    """The program as a scientist builds it."""
    return long_lived(tmp_path_factory.mktemp("whole_life"))


@pytest.fixture(scope="module")
def bundle() -> Iterator[AppVersion]:
    """The app version as a project makes it."""
    with packaged(*OUTPUTS) as version:
        yield version


@pytest.fixture(scope="module")
def rig(clock: FastClock, tmp_path_factory: pytest.TempPathFactory, bundle: AppVersion) -> Iterator[Rig]:
    """A client that suspends and resumes its job every second, for a volunteer who likes checkpoints."""
    preferences = {**HALF, **OFTEN}
    with open_rig(clock, tmp_path_factory.mktemp("life"), anonymous=bundle, preferences=preferences) as rig:
        yield rig


def test_the_whole_life_of_a_task(rig: Rig, science: Science, tmp_path: Path) -> None:
    client = rig.client
    job = begun(rig, science.job("long", steps=100))
    client.wait(lambda: client.log().count("<suspend/>") > 2, "the client limits the use of the processor")

    client.order("suspend", job.result)
    # The bridge says so after five seconds; a machine that ran on would be far ahead by then.
    client.wait(lambda: "the machine is paused: suspended by the client" in said(client), "the machine is paused")
    seen = client.result(job.result)
    assert seen is not None and seen.process_state == SUSPENDED
    assert len(qemu(client)) == 1
    client.order("resume", job.result)
    client.wait(lambda: "the machine runs again" in said(client), "the machine runs again")

    def checkpointed() -> bool:
        seen = client.result(job.result)
        return seen is not None and seen.checkpoint_cpu_time > 0

    client.wait(checkpointed, "the client sees a checkpoint")
    assert taken(said(client))

    client.quit()
    assert rig.server.report(job.result) is None
    client.wait(lambda: not client.processes() and not client.sockets(), "the machine is gone")
    last = taken(said(client))[-1]
    client.start()
    client.wait(lambda: restored(said(client)), "the machine is restored")
    ((number, done),) = restored(said(client))
    assert number == last
    goes_on(rig, job, done)

    rig.urged(lambda: trickled_up(rig, job), "a trickle has come up")
    rig.urged(lambda: rig.output(job, "early.txt"), "a result is at the server early")
    assert rig.server.report(job.result) is None
    rig.server.trickle_down(job.result, WORD)
    is_right(rig, job, science, tmp_path / "host")


def test_abort(rig: Rig, science: Science) -> None:
    client = rig.client
    job = begun(rig, science.job("aborted", steps=36_000))
    client.order("abort", job.result)
    nothing_is_left(client)
    report = rig.reported(job)
    assert report.exit_status == EXIT_ABORTED_VIA_GUI
    # Obeyed, and not killed by the client after its minute.
    assert "stopping: the client says abort" in report.stderr


def test_a_client_that_takes_suspended_jobs_out_of_memory(rig: Rig, science: Science, tmp_path: Path) -> None:
    client = rig.client
    client.prefer(leave_apps_in_memory=0)
    job = begun(rig, science.job("removed", steps=60))
    # Before its first checkpoint a job stays in memory whatever the volunteer prefers.
    client.wait(lambda: taken(said(client)), "a checkpoint")
    shown = fraction_done(client, job)
    client.order("suspend", job.result)
    client.wait(lambda: not client.processes(), "the machine is gone")
    last = taken(said(client))[-1]
    client.order("resume", job.result)
    client.wait(lambda: restored(said(client)), "the machine is restored")
    number, done = restored(said(client))[0]
    assert number == last and done >= shown
    rig.server.trickle_down(job.result, WORD)
    is_right(rig, job, science, tmp_path / "host")
    client.prefer(leave_apps_in_memory=1)


def test_a_client_that_leaves_the_project(rig: Rig, science: Science) -> None:
    """The last test of this client: it has no project afterwards."""
    client = rig.client
    begun(rig, science.job("orphan", steps=36_000))
    client.wait(lambda: taken(said(client)), "a checkpoint")
    client.boinccmd("--project", rig.server.url, "detach")
    nothing_is_left(client)
    client.wait(lambda: not list((client.directory / "projects").iterdir()), "the project's folder is gone")
    assert not list(client.directory.rglob("*vmbridge*"))
