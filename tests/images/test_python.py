"""A program in Python, with the library as one file, in a machine that has Debian's smallest Python."""

from __future__ import annotations

from collections.abc import Callable

from guest_side.python.bundle import bundle

from ..integration.conftest import JobDirectory

MakeJob = Callable[..., JobDirectory]

PROGRAM = """#!/usr/bin/python3
import os
import boinc

with boinc.task() as task:
    for step in boinc.progress(range(4)):
        task.ops(5e8 * (step + 1), step)
        if task.checkpoint_due():
            with task.checkpoint("state") as file:
                print(step, file=file)
    task.send("news", "<steps>4</steps>")
    with boinc.replacing("out.txt") as file:
        print(task.init_data["p_ncpus"], boinc.boinc_is_standalone(), os.path.exists("state"), file=file)
    if os.path.exists("fail"):
        raise ValueError("the input is bad")
"""
ELEMENTS = (
    "<copy_file_to_VM>boinc.py</copy_file_to_VM><copy_file_from_VM>out.txt</copy_file_from_VM>"
    "<checkpoint_filename>state</checkpoint_filename>"
)


def make_python_job(make_job: MakeJob, elements: str = "") -> JobDirectory:
    job = make_job("", ELEMENTS + elements)
    (job.path / "worker").write_text(PROGRAM)
    (job.path / "boinc.py").write_text(bundle(), encoding="utf-8")
    return job


def test_a_program_that_reports(make_job: MakeJob) -> None:
    job = make_python_job(make_job)
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text().split()[:2] == ["1", "0"]
    assert "100 % done" in done.stderr and "trickle 1 to the project, news: <steps>4</steps>" in done.stderr
    assert "operations:  2e+09 floating-point, 3 integer" in done.stdout


def test_an_exception_is_told_to_the_project(make_job: MakeJob) -> None:
    job = make_python_job(make_job, "<copy_file_to_VM>fail</copy_file_to_VM>")
    (job.path / "fail").write_text("")
    done = job.run()
    assert done.returncode != 0
    assert "ValueError: the input is bad" in done.stderr
