"""Jobs of several tasks, and of none in a machine, under the real client: the job files of the older programs."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .clock import FastClock
from .conftest import Rig, open_rig
from .machines import EXIT_ABORTED_VIA_GUI, bundled, fraction_done, nothing_is_left
from .project import AppVersion, Job, ProjectFile

MIXED = """<job_desc>
  <unzip_input><zipfilename>programs.zip</zipfilename></unzip_input>
  <task><application>prepare</application><command_line>boinc_resolve(in.txt)</command_line></task>
  <task><virtualmachine>shared</virtualmachine><image>image</image><application>first</application>
    <copy_file_to_VM>middle.txt</copy_file_to_VM><copy_file_from_VM>first.txt</copy_file_from_VM></task>
  <task><virtualmachine>shared</virtualmachine><application>second</application>
    <copy_file_from_VM>second.txt</copy_file_from_VM><weight>3</weight></task>
  <zip_output><zipfilename>out.zip</zipfilename><filename>\\.txt$</filename></zip_output>
</job_desc>
"""
SCRIPTS = {
    "prepare": 'tr a-z A-Z < "$1" > middle.txt',
    "first": "cp middle.txt first.txt; mv middle.txt kept",
    "second": "cat kept > second.txt",
}

FAMILY = """<job_desc>
  <task><application>family</application><multi_process/><fraction_done_filename>done</fraction_done_filename></task>
</job_desc>
"""
# Two that compute, one of them a daemon by a double fork; nobody waits for either.
FAMILY_SCRIPT = """#!/bin/sh
echo 0.25 > done
setsid sh -c 'sh -c "while :; do :; done" & echo $! > daemon.new; mv daemon.new daemon' &
sh -c 'while :; do :; done' &
sleep 100000
"""


@pytest.fixture(scope="module")
def mixed() -> Iterator[AppVersion]:
    """A version of an application whose job uses host and machine."""
    with bundled(MIXED) as version:
        yield version


@pytest.fixture(scope="module")
def hosts() -> Iterator[AppVersion]:
    """A version of an application that needs no machine."""
    with bundled(FAMILY, image=False) as version:
        yield version


def test_a_job_on_the_host_and_in_a_machine(clock: FastClock, tmp_path: Path, mixed: AppVersion) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, script in SCRIPTS.items():
            opened.writestr(name, f"#!/bin/sh\nset -e\n{script}\n")
    programs = ProjectFile("programs_1.zip", "programs.zip", archive.getvalue())
    job = Job("mixed", inputs=(programs, ProjectFile("in_1", "in.txt", b"ada\n")), outputs=("out.zip",))
    with open_rig(clock, tmp_path, mixed, jobs=(job,)) as rig:
        report = rig.reported(job)
        assert report.exit_status == 0, report.stderr
        assert report.final_cpu_time > 0
        with zipfile.ZipFile(io.BytesIO(rig.output(job, "out.zip") or b"")) as packed:
            assert {name: packed.read(name) for name in packed.namelist()} == dict.fromkeys(
                ("first.txt", "middle.txt", "second.txt"), b"ADA\n"
            )
        assert "task 3 of 3: second, in the machine" in report.stderr
        nothing_is_left(rig.client)


def computing(rig: Rig) -> list[psutil.Process]:
    """The two that compute."""
    found = []
    for process in rig.client.processes():
        try:
            if process.name() == "sh" and "while" in " ".join(process.cmdline()[-1:]) and process.children() == []:
                found.append(process)
        except psutil.Error:
            continue
    return found


def stand_still(processes: list[psutil.Process]) -> bool:
    """Say whether none of them has used the processor for a moment."""
    before = [sum(process.cpu_times()[:2]) for process in processes]
    time.sleep(0.3)
    return before == [sum(process.cpu_times()[:2]) for process in processes]


def test_a_family_of_processes_stands_still_and_goes_as_one(
    clock: FastClock, tmp_path: Path, hosts: AppVersion
) -> None:
    family = ProjectFile("family_1", "family", FAMILY_SCRIPT.encode(), executable=True)
    job = Job("family", inputs=(family,))
    with open_rig(clock, tmp_path, hosts, jobs=(job,)) as rig:
        client = rig.client
        client.wait(lambda: len(computing(rig)) == 2, "two programs compute")
        client.wait(lambda: fraction_done(client, job) == 0.25, "the client hears how far it is")
        client.order("suspend", job.result)
        both = computing(rig)
        client.wait(lambda: stand_still(both), "both stand still")
        client.order("resume", job.result)
        client.wait(lambda: not stand_still(both), "they go on")
        client.order("abort", job.result)
        nothing_is_left(client)
        assert not any(process.is_running() for process in both)
        assert rig.reported(job).exit_status == EXIT_ABORTED_VIA_GUI
