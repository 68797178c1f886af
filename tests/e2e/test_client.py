"""What the real client makes of an application's end, with a script that does nothing else: facts we build on.

All jobs run in one client, at the same time; each test waits for its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.client.slot import REASON_BYTES

from ..conftest import REPOSITORY
from .client import can_hide, other_user
from .clock import FastClock
from .conftest import Rig, open_rig
from .gui_rpc import UPLOADED
from .project import AppVersion, Job, ProjectFile

ACTOR = AppVersion(
    (
        ProjectFile(
            "actor_100.py", "actor_100.py", Path(__file__).with_name("actor.py"), main_program=True, executable=True
        ),
    )
)
WITHOUT_API_VERSION = replace(ACTOR, api_version=None, number=101)

INPUT = b"what the work unit brings\n"

JOBS = {
    "work": Job("work", "work 'and more'", inputs=(ProjectFile("work_in", "in", INPUT),), outputs=("out",)),
    "see": Job("see", f'see "{REPOSITORY / "README.md"}"'),
    "memory": Job("memory", "memory"),
    "segment": Job("segment", "memory", version=101),
    "finish-5": Job("finish-5", "finish 5"),
    "exit-9": Job("exit-9", "exit 9"),
    "leave": Job("leave", "leave"),
    "reason": Job("reason", "postpone 'the moon is full'"),
    "notice": Job("notice", f"postpone {'x' * REASON_BYTES} notice"),
    "long-notice": Job("long-notice", f"postpone {'x' * (REASON_BYTES + 1)} notice"),
    "no-reason": Job("no-reason", "postpone"),
    "SIGKILL": Job("SIGKILL", "signal SIGKILL"),
    "SIGTERM": Job("SIGTERM", "signal SIGTERM"),
    "SIGSEGV": Job("SIGSEGV", "signal SIGSEGV"),
    "trickle": Job("trickle", "trickle upwards"),
}


@pytest.fixture(scope="module")
def rig(clock: FastClock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A client that has got all the jobs."""
    folder = tmp_path_factory.mktemp("client")
    with open_rig(clock, folder, ACTOR, WITHOUT_API_VERSION, jobs=tuple(JOBS.values()), cpus=len(JOBS)) as rig:
        yield rig


def test_a_job_from_its_input_to_its_report(rig: Rig) -> None:
    report = rig.reported(JOBS["work"])
    assert (report.state, report.exit_status) == (UPLOADED, 0)
    assert rig.output(JOBS["work"], "out") == INPUT + b"and more"
    assert (report.final_cpu_time, report.fpops_cumulative, report.intops_cumulative) == (42.5, 5e9, 7e3)
    assert report.stderr == "start 1"
    assert rig.server.events("download").count("work_in") == 1


def test_the_program_is_downloaded_once_for_all_jobs(rig: Rig) -> None:
    rig.reported(JOBS["work"])
    assert rig.server.events("master page") == ["/"]
    assert rig.server.events("download").count("actor_100.py") == 1


def test_applications_have_the_true_time(rig: Rig) -> None:
    assert "preload None" in rig.reported(JOBS["see"]).stderr


def test_applications_cannot_read_the_checkout(rig: Rig) -> None:
    user = other_user()
    if user is None:
        pytest.skip("only root can start the client as another user")
    report = rig.reported(JOBS["see"])
    assert f"user {user.uid}" in report.stderr
    if not can_hide() and "readable: True" in report.stderr:
        pytest.skip("the checkout is readable for everybody, and a mount namespace to hide it in is not allowed here")
    assert "readable: False" in report.stderr


def test_with_api_version_memory_is_a_mapped_file(rig: Rig) -> None:
    assert "shm_key -1, mapped file: True" in rig.reported(JOBS["memory"]).stderr


def test_without_api_version_memory_is_a_segment(rig: Rig) -> None:
    report = rig.reported(JOBS["segment"])
    assert "shm_key" in report.stderr and "shm_key -1" not in report.stderr
    assert "mapped file: False" in report.stderr


def test_the_exit_status_counts_and_not_the_number_in_the_finish_file(rig: Rig) -> None:
    assert rig.reported(JOBS["finish-5"]).exit_status == 0


def test_an_exit_status_is_an_error_with_that_number(rig: Rig) -> None:
    report = rig.reported(JOBS["exit-9"])
    assert report.exit_status == 9
    assert report.stderr == "start 1"


@pytest.mark.parametrize("name", ["leave", "no-reason"])
def test_exit_0_without_a_finish_file_or_a_reason_starts_the_job_again(rig: Rig, name: str) -> None:
    report = rig.reported(JOBS[name])
    assert report.exit_status == 0
    assert report.stderr.splitlines() == ["start 1", "start 2"]
    message = f"Task {JOBS[name].result} exited with zero status but no 'finished' file"
    assert message in rig.client.messages()


def test_a_temporary_exit_with_a_reason_is_one(rig: Rig) -> None:
    report = rig.reported(JOBS["reason"])
    assert report.exit_status == 0
    assert report.stderr.splitlines() == ["start 1", "start 2"]
    assert f"Task {JOBS['reason'].result} postponed for 1 seconds: the moon is full" in rig.client.messages()


def test_a_reason_is_a_notice_if_it_is_not_too_long(rig: Rig) -> None:
    for name in ("notice", "long-notice"):
        assert rig.reported(JOBS[name]).exit_status == 0
    with rig.client.gui_rpc() as rpc:
        alerts = "\n".join(rpc.alerts())
    assert f"Task {JOBS['notice'].result} postponed for 1 seconds: {'x' * REASON_BYTES}" in alerts
    assert JOBS["long-notice"].result not in alerts


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_signal_that_others_send_starts_the_job_again(rig: Rig, name: str) -> None:
    report = rig.reported(JOBS[name])
    assert report.exit_status == 0
    assert report.stderr.splitlines() == ["start 1", "start 2"]


def test_a_signal_of_its_own_making_is_an_error(rig: Rig) -> None:
    assert rig.reported(JOBS["SIGSEGV"]).exit_status != 0


def test_trickles_go_up_and_down(rig: Rig) -> None:
    job = JOBS["trickle"]
    rig.client.wait(lambda: rig.server.trickles_up(job.result), "the trickle has come up")
    assert "upwards" in rig.server.trickles_up(job.result)[0].text
    rig.server.trickle_down(job.result, "downwards")
    report = rig.reported(job)
    assert "downwards" in report.stderr


def test_nothing_is_left(rig: Rig) -> None:
    for job in JOBS.values():
        rig.reported(job)
    rig.client.wait(lambda: not rig.client.left_in_slots(), "the slots are empty")
    assert rig.client.processes() == []
    assert rig.client.sockets() == []
