"""Debian packages that come with a job, in a real machine with a Debian system in it.

What their scripts do with the program's output is seen here, for outputs are collected when the packages are gone.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ..integration.conftest import JobDirectory
from ..integration.test_going_on import App, end
from ..integration.test_packages import with_second_task
from ..patience import until
from ..tars import write_tar

OUT = "<copy_file_from_VM>out.txt</copy_file_from_VM>"
BROUGHT = "<copy_app_to_VM>0</copy_app_to_VM>"
WORK = "/var/lib/vmbridge/work"

MakeJob = Callable[..., JobDirectory]


@pytest.fixture
def deb(tmp_path: Path) -> Callable[..., Path]:
    """Make a package from control fields, files by their paths, and maintainer scripts."""

    def make(target: Path, fields: str, files: dict[str, str] | None = None, **scripts: str) -> Path:
        tree = tmp_path / f"tree-of-{target.name}"
        standard = "Version: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a test"
        control = fields if "Version:" in fields else f"{fields}\n{standard}"
        scripts_by_path = {f"DEBIAN/{name}": f"#!/bin/sh\nset -e\n{text}\n" for name, text in scripts.items()}
        for path, text in {"DEBIAN/control": f"{control}\n", **scripts_by_path, **(files or {})}.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o644 if path == "DEBIAN/control" else 0o755)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, target], check=True, capture_output=True)
        return target

    return make


MakeDeb = Callable[..., Path]


def purged(word: str) -> str:
    return f'[ "$1" != purge ] || echo {word} >> {WORK}/out.txt'


def test_packages_are_installed_in_order_and_purged_in_reverse(make_job: MakeJob, deb: MakeDeb) -> None:
    packages = "<package>lib.deb</package><package>data.tar.gz</package><package>prog_1.0_all.deb</package>"
    job = make_job("", OUT + BROUGHT + packages)
    text = (job.path / "job.xml").read_text()
    (job.path / "job.xml").write_text(text.replace("<application>worker", "<application>/usr/games/worker"))
    worker = (
        "#!/usr/bin/python3\nimport os, lib\ndata = open(os.environ['VMBRIDGE_PACKAGES'] + '/data.tar.gz/data')\n"
        "print(lib.ANSWER, data.read(), end='', file=open('out.txt', 'w'))\n"
    )
    files = {"usr/lib/python3.11/lib.py": "ANSWER = 42\n", "etc/lib.conf": "x = 1\n"}
    deb(job.path / "lib.deb", "Package: lib", files, postrm=purged("lib"))
    write_tar(job.path / "data.tar.gz", {"data": "its data\n"})
    needs = "Package: prog\nDepends: lib, python3-minimal"
    deb(job.path / "prog_1.0_all.deb", needs, {"usr/games/worker": worker}, postrm=purged("prog"))
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "42 its data\nprog\nlib\n"
    assert job.left() == [] and "removing the package" not in done.stderr


def test_the_next_task_on_the_same_disk_finds_a_system_as_it_was(make_job: MakeJob, deb: MakeDeb) -> None:
    job = make_job("", BROUGHT + "<package>prog.deb</package>")
    deb(job.path / "prog.deb", "Package: prog", {"usr/bin/worker": "#!/bin/sh\necho > left\n"}, postinst="true")
    look = "ls left /usr/bin/worker; dpkg-query -W prog; dpkg --audit; ls /var/lib/dpkg/info/prog.*"
    with_second_task(job, f"exec > out.txt 2>&1; {look}; exit 0")
    done = job.run()
    assert done.returncode == 0, done.stderr
    said = (job.path / "out.txt").read_text().splitlines()
    assert said[:2] == ["ls: cannot access '/usr/bin/worker': No such file or directory", "left"]
    assert said[2:] == [
        "dpkg-query: no packages found matching prog",
        "ls: cannot access '/var/lib/dpkg/info/prog.*': No such file or directory",
    ]


def test_a_program_that_a_package_brings_and_that_fails(make_job: MakeJob, deb: MakeDeb) -> None:
    job = make_job("", BROUGHT + "<package>prog.deb</package>")
    deb(job.path / "prog.deb", "Package: prog", {"usr/bin/worker": "#!/bin/sh\nexit 5\n"}, postrm="echo here >&2")
    done = job.run()
    assert done.returncode == 1
    assert "the program ended with code 5" in done.stderr


def test_what_dpkg_says_of_a_missing_dependency_reaches_the_project(make_job: MakeJob, deb: MakeDeb) -> None:
    job = make_job("exit 0", "<package>prog.deb</package>")
    deb(job.path / "prog.deb", "Package: prog\nDepends: no-such-library (>= 2)")
    done = job.run()
    assert done.returncode == 1
    assert "installing the package prog.deb ended with code 1: " in done.stderr
    assert "prog depends on no-such-library (>= 2); however:|  Package no-such-library is not installed." in done.stderr


def test_a_package_that_cannot_be_removed_costs_no_result(make_job: MakeJob, deb: MakeDeb) -> None:
    job = make_job("echo 42 > out.txt", OUT + "<package>prog.deb</package>")
    deb(job.path / "prog.deb", "Package: prog", prerm=f"echo tried >> {WORK}/out.txt; exit 3")
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text().startswith("42\ntried\n")


def test_what_the_image_had_before_is_upgraded_and_stays(make_job: MakeJob, deb: MakeDeb) -> None:
    name = "libnumber-compare-perl"
    job = make_job(f"dpkg-query -W -f '${{Version}}\\n' {name} > out.txt", OUT + "<package>newer.deb</package>")
    fields = f"Package: {name}\nVersion: 99\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: x"
    deb(job.path / "newer.deb", fields, postrm=f"echo gone >> {WORK}/out.txt")
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "99\n"


def test_a_tool_that_the_image_does_not_have_is_named(make_job: MakeJob) -> None:
    job = make_job("exit 0", "<package>prog.rpm</package>")
    (job.path / "prog.rpm").write_text("never looked into")
    done = job.run()
    assert done.returncode == 1
    assert "the package prog.rpm needs rpm, which this image does not have" in done.stderr


def test_a_machine_that_is_killed_while_dpkg_is_at_work_begins_anew(make_job: MakeJob, deb: MakeDeb) -> None:
    job = make_job("cat /srv/installed > out.txt", OUT + "<package>slow.deb</package>")
    wait = "until [ -e /run/vmbridge/host/go ]; do sleep 0.1; done"
    deb(job.path / "slow.deb", "Package: slow", postinst=f"echo once >> /srv/installed\n{wait}")
    app = App(job)
    process = app.start()
    app.wait_until_said("the guest says: installing slow.deb")
    end(process, signal.SIGKILL)
    until(lambda: app.job.machines() == [])
    process = app.start()
    until(lambda: app.stderr.read_text().count("the guest says: installing slow.deb") == 2, app.stderr.read_text)
    (app.path / "shared/host/go").touch()
    until(lambda: process.poll() is not None)
    assert (app.path / "boinc_finish_called").read_text().startswith("0\n"), app.stderr.read_text()
    assert (app.path / "out.txt").read_text() == "once\n"


def test_a_restored_machine_does_not_install_again(make_job: MakeJob, deb: MakeDeb) -> None:
    script = "until [ -e /run/vmbridge/host/go ]; do sleep 0.1; done; cat /srv/installed > out.txt"
    elements = OUT + BROUGHT + "<checkpoint_period>1</checkpoint_period><package>prog.deb</package>"
    app = App(make_job("", elements))
    deb(app.path / "prog.deb", "Package: prog", {"usr/bin/worker": f"#!/bin/sh\n{script}\n"},
        postinst="echo once >> /srv/installed", postrm=purged("gone"))  # fmt: skip
    process = app.start()
    app.wait_until_said("checkpoint checkpoint-1 taken")
    end(process, signal.SIGKILL)
    until(lambda: app.job.machines() == [])
    process = app.start()
    app.wait_until_said("restored from checkpoint-")

    def ends() -> bool:
        with contextlib.suppress(FileNotFoundError):
            (app.path / "shared/host/go").touch()
        return process.poll() is not None

    until(ends, app.stderr.read_text)
    assert (app.path / "out.txt").read_text() == "once\ngone\n", app.stderr.read_text()
