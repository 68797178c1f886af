"""The bridge as the real client runs it: the bundle that `vmbridge package` writes, and jobs in real machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from .clock import FastClock
from .conftest import Rig, open_rig
from .gui_rpc import UPLOADED
from .machines import (
    EXIT_ABORTED_VIA_GUI,
    Science,
    begun,
    compile_program,
    nothing_is_left,
    packaged,
    qemu,
    trickled_up,
)
from .project import AppVersion, Job, ProjectFile

SEGMENTS = 101
"""The number of the version that lacks <api_version>."""

EXIT_INIT_FAILURE = 206


@pytest.fixture(scope="module")
def science(tmp_path_factory: pytest.TempPathFactory) -> Science:
    """The program as a scientist builds it."""
    return Science(compile_program("science.c", tmp_path_factory.mktemp("science")))


@pytest.fixture(scope="module")
def bundle() -> Iterator[AppVersion]:
    """The app version as a project makes it."""
    with packaged("out.txt") as version:
        yield version


# A signed bundle, downloaded. One client runs all these jobs, one after the other.


@dataclass(frozen=True, slots=True)
class Signed:
    """The rig with the signed bundle, and its jobs."""

    rig: Rig
    first: Job
    second: Job
    failing: Job
    segment: Job


@pytest.fixture(scope="module")
def signed(
    clock: FastClock, tmp_path_factory: pytest.TempPathFactory, bundle: AppVersion, science: Science
) -> Iterator[Signed]:
    """A client that was told of the project by an account file, and nothing else."""
    jobs = (
        science.job("first", steps=60),
        science.job("second", steps=10),
        science.job("failing", steps=3, code=7),
        science.job("segment", steps=5, version=SEGMENTS),
    )
    versions = (bundle, replace(bundle, api_version=None, number=SEGMENTS))
    with open_rig(clock, tmp_path_factory.mktemp("signed"), *versions, jobs=jobs) as rig:
        yield Signed(rig, *jobs)


def test_progress_is_seen_on_the_way(signed: Signed) -> None:
    client = signed.rig.client

    def under_way() -> bool:
        shown = _first_task(client.boinccmd("--get_tasks"), signed.first.result)
        done, cpu_time = (float(shown.get(key, 0)) for key in ("fraction done", "current CPU time"))
        return 0 < done < 1 and cpu_time > 0 and len(qemu(client)) == 1

    client.wait(under_way, "boinccmd shows a fraction done and CPU time of a job that has one machine")


def _first_task(text: str, name: str) -> dict[str, str]:
    """Return what boinccmd says of one task: lines of `key: value`."""
    for task in text.split("-----------"):
        shown = dict(line.strip().split(": ", 1) for line in task.splitlines() if ": " in line)
        if shown.get("name") == name:
            return shown
    return {}


def test_results_are_right_to_the_byte(signed: Signed, science: Science, tmp_path: Path) -> None:
    for job in (signed.first, signed.second):
        report = signed.rig.reported(job)
        assert (report.state, report.exit_status) == (UPLOADED, 0), report.stderr
        assert signed.rig.output(job, "out.txt") == science.expected(job, tmp_path / job.name)


def test_cpu_time_and_operations_are_reported(signed: Signed) -> None:
    report = signed.rig.reported(signed.first)
    assert report.final_cpu_time > 0
    assert (report.fpops_cumulative, report.intops_cumulative) == (60e6, 60 * 2 * 20000)


def test_two_jobs_on_one_image_that_came_once(signed: Signed, bundle: AppVersion) -> None:
    signed.rig.reported(signed.second)
    downloads = signed.rig.server.events("download")
    for file in bundle.files:
        assert downloads.count(file.physical) == 1, file.physical
    assert downloads.count("first_in") == downloads.count("second_in") == 1


def test_a_program_that_fails(signed: Signed) -> None:
    report = signed.rig.reported(signed.failing)
    assert report.exit_status == 7
    assert "the sum does not come out" in report.stderr


def test_without_api_version(signed: Signed, science: Science, tmp_path: Path) -> None:
    report = signed.rig.reported(signed.segment)
    assert report.exit_status == 0, report.stderr
    assert signed.rig.output(signed.segment, "out.txt") == science.expected(signed.segment, tmp_path / "host")


def test_nothing_is_left(signed: Signed) -> None:
    signed.rig.reported(signed.segment)
    nothing_is_left(signed.rig.client)


# The anonymous platform: the bundle as a volunteer installs it.


@pytest.fixture(scope="module")
def anonymous(clock: FastClock, tmp_path_factory: pytest.TempPathFactory, bundle: AppVersion) -> Iterator[Rig]:
    """A client whose owner has brought the app version; it gets its jobs from the tests."""
    with open_rig(clock, tmp_path_factory.mktemp("anonymous"), anonymous=bundle) as rig:
        yield rig


def test_what_the_volunteer_has_brought_is_not_downloaded(anonymous: Rig, bundle: AppVersion, science: Science) -> None:
    anonymous.reported(anonymous.hand_out(science.job("short", steps=1)))
    downloads = anonymous.server.events("download")
    assert "short_in" in downloads
    assert not {file.physical for file in bundle.files} & set(downloads)


def test_a_bridge_that_is_killed_takes_the_machine_along_and_the_next_finishes(
    anonymous: Rig, science: Science, tmp_path: Path
) -> None:
    client = anonymous.client
    job = begun(anonymous, science.job("killed", steps=50))
    (machine,) = qemu(client)
    bridge = machine.parent()
    assert bridge is not None
    bridge.kill()
    client.wait(lambda: not machine.is_running(), "the machine is gone")
    report = anonymous.reported(job)
    assert report.exit_status == 0, report.stderr
    assert report.stderr.count("vmbridge-app") == 2
    assert anonymous.output(job, "out.txt") == science.expected(job, tmp_path / "host")


def test_trickles_and_an_early_upload(anonymous: Rig, science: Science, tmp_path: Path) -> None:
    """The program goes on only when it has heard that its output is at the server, and what the project has to say."""
    program = compile_program("messenger.c", tmp_path)
    inputs = (ProjectFile("messenger_1", "science", program, executable=True), ProjectFile("quiet_in", "in.txt", b""))
    job = anonymous.hand_out(Job("messenger", inputs=inputs, outputs=("out.txt",), command_line="--trickle 1000000"))
    server = anonymous.server
    anonymous.urged(lambda: len(trickled_up(anonymous, job)) >= 3, "three trickles have come up")
    assert anonymous.urged(lambda: anonymous.output(job, "out.txt"), "the output is at the server") == b"early\n"
    assert server.report(job.result) is None, "and the job goes on"
    server.trickle_down(job.result, "the word")
    report = anonymous.reported(job)
    assert report.exit_status == 0, report.stderr
    # Trickles and the report may come with one request, or not.
    anonymous.urged(lambda: len(trickled_up(anonymous, job)) >= 4, "the last trickle has come up")
    said = ("one", "two", "three", "heard the word")
    assert trickled_up(anonymous, job) == [f"<variety>test</variety>\n{text}" for text in said]
    assert server.events("upload").count(job.output_file("out.txt")) == 1
    nothing_is_left(anonymous.client)


def test_a_wrong_command_line_is_an_error_that_the_project_sees(anonymous: Rig, science: Science) -> None:
    report = anonymous.reported(anonymous.hand_out(science.job("wrong", steps=1, command_line="--nonsense")))
    assert report.exit_status == EXIT_INIT_FAILURE
    assert "the option '--nonsense' is not known" in report.stderr


def test_a_machine_does_not_outlive_a_client_that_is_killed(anonymous: Rig, science: Science) -> None:
    client = anonymous.client
    job = begun(anonymous, science.job("orphaned", steps=36_000))
    client.kill()
    client.wait(lambda: not client.processes(), "the machine is gone")
    client.start()
    client.order("abort", job.result)
    nothing_is_left(client)
    assert anonymous.reported(job).exit_status == EXIT_ABORTED_VIA_GUI


def test_a_computer_without_qemu(clock: FastClock, bundle: AppVersion, science: Science, tmp_path: Path) -> None:
    job = science.job("early", steps=1)
    with open_rig(clock, tmp_path, anonymous=bundle, jobs=(job,), path=str(tmp_path)) as rig:
        start = f"Task {job.result} postponed for 3600 seconds: "
        message = rig.urged(
            lambda: next((line for line in rig.client.messages() if line.startswith(start)), ""), "the job is postponed"
        )
        assert "Install QEMU" in message
        with rig.client.gui_rpc() as rpc:
            assert message in rpc.alerts(), "it is a notice, and all of it is there"
        assert rig.server.report(job.result) is None
