"""The whole life of a task under the real client, which limits the use of the processor to a half.

The program (`whole_life.c`) cannot end before it is told to, so no test depends on who is faster.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .clock import FastClock
from .conftest import Rig, open_rig
from .gui_rpc import SUSPENDED
from .machines import (
    EXIT_ABORTED_VIA_GUI,
    Science,
    begun,
    compile_program,
    fraction_done,
    nothing_is_left,
    packaged,
    qemu,
    said,
    trickled_up,
)
from .project import AppVersion, Job

QUITS = int(os.environ.get("QUITS", "3"))
SPEED = float(os.environ.get("CLIENT_SPEED", "3"))
"""So many shutdowns does one job live through, with a client so fast; `make quits` has ten, by the true clock."""

WORD = "the word"
WAITS_AT = 0.9
"""At this fraction the program waits for the word."""

HALF = {"cpu_usage_limit": 50}
OFTEN = {"disk_interval": 2}
"""The volunteer's "write to disk at most every", in seconds: the period of the checkpoints."""


@pytest.fixture(scope="module")
def science(tmp_path_factory: pytest.TempPathFactory) -> Science:
    """The program as a scientist builds it."""
    program = compile_program("whole_life.c", tmp_path_factory.mktemp("whole_life"))
    return Science(program, ("out.txt", "early.txt"))


@pytest.fixture(scope="module")
def bundle() -> Iterator[AppVersion]:
    """The app version as a project makes it."""
    with packaged("out.txt", "early.txt") as version:
        yield version


@pytest.fixture(scope="module")
def rig(clock: FastClock, tmp_path_factory: pytest.TempPathFactory, bundle: AppVersion) -> Iterator[Rig]:
    """A client that suspends and resumes its job every second, for a volunteer who likes checkpoints."""
    preferences = {**HALF, **OFTEN}
    with open_rig(clock, tmp_path_factory.mktemp("life"), anonymous=bundle, preferences=preferences) as rig:
        yield rig


def taken(text: str) -> list[int]:
    """Return the numbers of the checkpoints that were taken, from a `stderr.txt`."""
    return [int(number) for number in re.findall(r"checkpoint checkpoint-(\d+) taken", text)]


def restored(text: str) -> list[tuple[int, float]]:
    """Return the numbers of those that were restored, and the fraction that was done by then."""
    found = re.findall(r"restored from checkpoint-(\d+), ([\d.]+)% done", text)
    return [(int(number), float(percent) / 100) for number, percent in found]


def goes_on(rig: Rig, job: Job, beyond: float) -> None:
    """Wait until the client knows of more than this fraction, or all that there can be before the word."""

    def gone_on() -> bool:
        return fraction_done(rig.client, job) >= min(beyond + 2e-3, WAITS_AT)

    rig.client.wait(gone_on, f"{job.name} goes on beyond {beyond:.1%}")


def is_right(rig: Rig, job: Job, science: Science, folder: Path) -> str:
    """Wait for the end, and see that all is as if nothing had happened; return the job's `stderr.txt`."""
    report = rig.reported(job)
    assert report.exit_status == 0, report.stderr
    assert rig.output(job, "out.txt") == science.expected(job, folder)
    assert rig.output(job, "early.txt") == (folder / "early.txt").read_bytes()
    rig.urged(lambda: len(trickled_up(rig, job)) >= 2, "the last trickle has come up")
    assert trickled_up(rig, job) == [f"<variety>test</variety>\n{text}" for text in ("a quarter", f"heard {WORD}")]
    assert rig.server.events("upload").count(job.output_file("early.txt")) == 1
    nothing_is_left(rig.client)
    return report.stderr


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


# The quit that gets lost.


@pytest.fixture(scope="module")
def slower(clock: FastClock, tmp_path_factory: pytest.TempPathFactory, bundle: AppVersion) -> Iterator[Rig]:
    """A client that leaves a program more than twelve seconds of the minute: it hears nothing in the first five."""
    slow = FastClock(clock.library, time.time(), SPEED)
    with open_rig(slow, tmp_path_factory.mktemp("quits"), anonymous=bundle, preferences=HALF) as rig:
        yield rig


def test_nothing_is_lost_when_a_quit_is(slower: Rig, science: Science, tmp_path: Path) -> None:
    """A client that limits the use of the processor usually loses the quit of its own shutdown, and kills.

    A machine whose client's last word was `suspend` used to be killed unsaved.
    """
    client = slower.client
    job = begun(slower, science.job("quitter", steps=30 * (QUITS + 1)))
    lost, shown = 0, 0.0
    for quits in range(QUITS):
        client.wait(lambda: said(client).count("-> running: up") > quits, "the guest speaks")  # noqa: B023
        goes_on(slower, job, shown)
        before = said(client)
        client.quit()
        shown = fraction_done(client, job)
        told = said(client).removeprefix(before)
        lost += "the client says quit" not in told
        assert taken(told), f"nothing was saved: {told}"
        client.start()
        client.wait(lambda: len(restored(said(client))) > quits, "the machine is restored")  # noqa: B023
        number, done = restored(said(client))[-1]
        assert number == taken(told)[-1]
        assert done >= round(shown, 3), f"shutdown {quits + 1}: {shown:.2%} were done, and {done:.1%} are now"
    print(f"{lost} of {QUITS} quits got lost, and nothing with them")
    slower.server.trickle_down(job.result, WORD)
    is_right(slower, job, science, tmp_path / "host")
