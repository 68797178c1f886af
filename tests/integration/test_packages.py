"""Packages that come with a job, in a real machine of the tiny image; those of a whole system are in tests/images."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from ..patience import until
from ..tars import write_tar
from .conftest import JobDirectory
from .test_going_on import COUNTER, App, end

OUT = "<copy_file_from_VM>out.txt</copy_file_from_VM>"
BROUGHT = "<copy_app_to_VM>0</copy_app_to_VM>"

MakeJob = Callable[..., JobDirectory]


def pack(file: Path, worker: str, more: int = 0) -> None:
    """Write a tar with a program, and with `more` empty files, so that unpacking it takes a while."""
    write_tar(file, {"bin/worker": f"#!/bin/sh\n{worker}\n", **{f"many/{n}": "" for n in range(more)}})


def test_tars_in_the_tiny_image(make_job: MakeJob) -> None:
    job = make_job("tool > out.txt", OUT + "".join(f"<package>p.tar{end}</package>" for end in ("", ".gz", ".xz")))
    pack(job.path / "p.tar", "exit 1")
    pack(job.path / "p.tar.gz", "exit 2")
    tool = "#!/bin/sh\nworker; echo $?; echo $VMBRIDGE_PACKAGES; ls $VMBRIDGE_PACKAGES\n"
    write_tar(job.path / "p.tar.xz", {"bin/tool": tool})
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "1\n/work/.packages\np.tar\np.tar.gz\np.tar.xz\n"
    assert job.left() == []


def with_second_task(job: JobDirectory, script: str) -> None:
    """Add a task to the job: the program `look`, whose output is out.txt."""
    (job.path / "look").write_text(f"#!/bin/sh\n{script}\n")
    text = (job.path / "job.xml").read_text()
    second = f"<task><virtualmachine>test</virtualmachine><application>look</application>{OUT}</task>"
    (job.path / "job.xml").write_text(text.replace("</job_desc>", f"{second}</job_desc>"))


def test_the_next_task_on_the_same_disk_finds_nothing_of_a_package(make_job: MakeJob) -> None:
    job = make_job("", BROUGHT + "<package>p.tar.gz</package>")
    pack(job.path / "p.tar.gz", "echo > left")
    with_second_task(job, "ls -A > out.txt; which worker >> out.txt; echo $VMBRIDGE_PACKAGES >> out.txt")
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert {"left", "look", ""} <= set((job.path / "out.txt").read_text().split("\n"))
    assert "packages" not in (job.path / "out.txt").read_text()
    assert "worker" not in (job.path / "out.txt").read_text()


def test_a_tar_without_a_machine(make_job: MakeJob) -> None:
    job = make_job("exit 1", OUT + BROUGHT + "<package>p.tar</package>")
    pack(job.path / "p.tar", "echo 42 > out.txt")
    done = job.run("--hypervisor", "local")
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "42\n" and job.left() == []


def test_a_system_package_without_a_machine_is_not_installed(make_job: MakeJob) -> None:
    job = make_job("exit 0", "<package>p.deb</package>")
    (job.path / "p.deb").write_text("never looked into")
    done = job.run("--hypervisor", "local")
    assert done.returncode == 1
    assert "the package p.deb is only installed in a machine, and this is none" in done.stderr


def test_a_system_package_in_the_tiny_image_is_refused_before_a_machine_starts(make_job: MakeJob) -> None:
    job = make_job("exit 0", "<package>p.deb</package>")
    (job.path / "p.deb").write_text("never looked into")
    done = job.run()
    assert done.returncode == 1
    assert "<package>p.deb</package> is installed by a tool of a whole system, which this image does not have" in (
        done.stderr
    )
    assert "staging -> booting" not in done.stderr and job.left() == []


def test_a_program_that_the_image_has(make_job: MakeJob) -> None:
    job = make_job("", OUT + BROUGHT + """<command_line>-c 'echo "$0" &gt; out.txt'</command_line>""")
    text = (job.path / "job.xml").read_text()
    (job.path / "job.xml").write_text(text.replace("<application>worker", "<application>/bin/sh"))
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "/bin/sh\n"


def test_a_program_that_is_not_there_and_an_archive_that_is_broken(make_job: MakeJob) -> None:
    done = make_job("", BROUGHT).run()
    assert done.returncode == 1
    assert "code 127: cannot execute the guest's own program worker: No such file or directory" in done.stderr
    job = make_job("exit 0", "<package>p.tar.gz</package>")
    (job.path / "p.tar.gz").write_text("no archive")
    done = job.run()
    assert done.returncode == 1
    assert "installing the package p.tar.gz ended with code 1: tar: " in done.stderr


def brought(make_job: MakeJob, more: int = 0) -> App:
    job = make_job("exit 1", OUT + BROUGHT + "<checkpoint_period>1</checkpoint_period><package>p.tar.gz</package>")
    pack(job.path / "p.tar.gz", COUNTER, more)
    return App(job)


def installed(app: App) -> int:
    return app.stderr.read_text().count("the guest says: installing p.tar.gz")


def test_a_machine_that_is_restored_does_not_install_again(make_job: MakeJob) -> None:
    app = brought(make_job, more=500)
    process = app.start()
    app.wait_until_said("checkpoint checkpoint-1 taken")
    before = installed(app)
    end(process, signal.SIGKILL)
    until(lambda: app.job.machines() == [])
    app.finish()
    assert app.said("restored from checkpoint-")
    assert installed(app) == before


def test_a_machine_that_is_killed_while_it_installs_begins_anew(make_job: MakeJob) -> None:
    app = brought(make_job, more=5000)
    process = app.start()
    until(lambda: installed(app) == 1, app.stderr.read_text)
    end(process, signal.SIGKILL)
    until(lambda: app.job.machines() == [])
    app.finish()
    assert installed(app) == 2
