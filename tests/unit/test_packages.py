# SPDX-License-Identifier: Apache-2.0
"""Packages of a task, with the guest agent as a process of this host: what a tar holds is there, then gone.

What a system's own tool installs is only installed in a machine: tests/images has those.
"""

from __future__ import annotations

import contextlib
import signal
import tarfile
from pathlib import Path

import psutil
import pytest

from ..patience import until
from ..tars import write_tar
from .test_agent import RUN, Guest, binary, guest

__all__ = ["binary", "guest"]

STOP = "protocol 1\nseq 2\nstate stop\n"
RUN_AGAIN = "protocol 1\nseq 3\nstate run\n"


def pack(guest: Guest, name: str, files: dict[str, str]) -> None:
    write_tar(guest.root / "host/in" / name, files)


def hidden(guest: Guest) -> list[str]:
    return sorted(path.name for path in (guest.root / "work").glob(".pack*"))


def run(guest: Guest, *task: str, exit_status: int = 0) -> dict[str, str]:
    guest.put("task", "\n".join(["protocol 1", *task, ""]))
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == exit_status, guest.log
    return guest.keys("status")


@pytest.mark.behaviour("B22")
@pytest.mark.parametrize("name", ["p.tar", "p.tar.gz", "p.tgz"])
def test_a_program_that_a_tar_brings(guest: Guest, name: str) -> None:
    script = '#!/bin/sh\ncat "$VMBRIDGE_PACKAGES/' + name + '/share/data" > out; echo "$0 $1" >> out; ls -A >> out\n'
    pack(guest, name, {"bin/worker": script, "share/data": "its data\n"})
    run(guest, "program worker", "program_path worker", f"package {name}", "arg one", "output out")
    where = (guest.root / "work").resolve() / ".packages"
    lines = (guest.read("out/out") or "").splitlines()
    assert lines[:3] == ["its data", f"{where}/{name}/bin/worker one", ".packages"]
    assert name not in lines, "the package itself is out of its way"
    assert guest.read("finished") == "code 0\n"
    assert hidden(guest) == [], "nothing is left of it"


@pytest.mark.behaviour("B22")
def test_the_programs_code_is_kept_and_packages_are_removed_whatever_it_was(guest: Guest) -> None:
    pack(guest, "p.tar", {"bin/worker": "#!/bin/sh\nrm -rf $VMBRIDGE_PACKAGES/p.tar/bin; kill -9 $$\n"})
    run(guest, "program worker", "program_path worker", "package p.tar")
    assert guest.keys("finished")["code"] == "137"
    assert hidden(guest) == []


@pytest.mark.behaviour("B22")
def test_the_first_package_is_the_first_to_be_looked_in(guest: Guest) -> None:
    """One has no bin/: its folder itself is looked in."""
    pack(guest, "first.tar", {"worker": "#!/bin/sh\nhelper > out\n"})
    pack(guest, "second.tar", {"bin/worker": "#!/bin/sh\nexit 9\n", "bin/helper": "#!/bin/sh\necho helped\n"})
    run(guest, "program worker", "program_path worker", "package first.tar", "package second.tar", "output out")
    assert (guest.read("finished"), guest.read("out/out")) == ("code 0\n", "helped\n")
    words = [line for line in guest.log.splitlines() if ".tar" in line]
    assert [word.removeprefix("agent: ") for word in words] == [
        "installing first.tar", "installing second.tar", "removing second.tar", "removing first.tar"
    ]  # fmt: skip


@pytest.mark.behaviour("B22")
def test_a_program_of_the_job_that_uses_a_package(guest: Guest) -> None:
    guest.put("in/worker", "#!/bin/sh\ntool > out\n")
    pack(guest, "p.tar", {"bin/tool": "#!/bin/sh\necho $PATH\n"})
    run(guest, "program worker", "package p.tar", "env PATH=/bin:/usr/bin", "output out")
    where = (guest.root / "work").resolve() / ".packages/p.tar/bin"
    spool = (guest.root / "spool").resolve()
    assert guest.read("out/out") == f"{where}:/bin:/usr/bin:{spool}/bin\n", "boinc-guest is looked for last"


@pytest.mark.parametrize("path", ["sh", "/bin/sh"])
def test_a_program_that_the_guest_has(guest: Guest, path: str) -> None:
    run(guest, "program sh", f"program_path {path}", "arg -c", 'arg echo "$0 $VMBRIDGE_PACKAGES" > out', "output out")
    assert guest.read("out/out") == f"{path} \n"


@pytest.mark.parametrize("path", ["no-such-program", "/opt/no/such/program", ""])
def test_a_program_that_the_guest_does_not_have_is_named(guest: Guest, path: str) -> None:
    pack(guest, "p.tar", {"bin/other": ""})
    run(guest, "program worker", f"program_path {path}", "package p.tar")
    finished = guest.keys("finished")
    assert finished["code"] == "127"
    assert finished["message"] == f"cannot execute the guest's own program {path}: No such file or directory"
    assert hidden(guest) == []


@pytest.mark.behaviour("B22")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("p.zip", "neither a tar (.tar, .tar.gz, .tar.xz, .tar.bz2) nor a .deb or .rpm"),
        (".tar", None),
        ("p.deb", "only installed in a machine, and this is none"),
        ("p.rpm", "only installed in a machine, and this is none"),
    ],
)
def test_what_is_not_installed_here(guest: Guest, name: str, why: str | None) -> None:
    """A system package on the computer of whoever tries a job out would change that computer."""
    guest.put("in/worker", "#!/bin/sh\n")
    status = run(guest, "program worker", f"package {name}", exit_status=1)
    assert status["state"] == "error"
    expected = "task breaks R16" if why is None else f"the package {name} is "
    assert status["message"].startswith(expected) and (why or "") in status["message"]
    assert not (guest.root / "work/worker").exists(), "nothing was fetched"


@pytest.mark.behaviour("B22")
def test_a_package_that_cannot_be_installed_ends_the_task_and_says_why(guest: Guest) -> None:
    guest.put("in/worker", "#!/bin/sh\necho > ran\n")
    guest.put("in/p.tar.gz", "no archive\n")
    status = run(guest, "program worker", "package p.tar.gz", exit_status=1)
    assert status["state"] == "error"
    assert status["message"].startswith("installing the package p.tar.gz ended with code 2: "), status
    assert "not in gzip format" in status["message"]
    assert not (guest.root / "work/ran").exists() and guest.read("finished") is None


@pytest.mark.behaviour("B22")
def test_a_package_that_is_missing(guest: Guest) -> None:
    guest.put("in/worker", "#!/bin/sh\n")
    status = run(guest, "program worker", "package p.tar", exit_status=1)
    assert status["message"] == "cannot fetch in/p.tar: No such file or directory"


def test_a_hostile_archive_does_not_leave_its_folder(guest: Guest) -> None:
    guest.put("in/worker", "#!/bin/sh\n")
    with tarfile.open(guest.root / "host/in/p.tar", "w") as tar:
        for name, kind, link in (("../../over", tarfile.REGTYPE, ""), ("up", tarfile.SYMTYPE, "../../guest"),
                                 ("up/through", tarfile.REGTYPE, ""), ("/rooted", tarfile.REGTYPE, "")):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info)
    status = run(guest, "program worker", "package p.tar", exit_status=1)
    assert status["state"] == "error" and "Member name contains '..'" in status["message"]
    assert not (guest.root / "over").exists() and not (guest.root / "guest/through").exists()
    assert not Path("/rooted").exists()


@pytest.mark.behaviour("B22")
def test_a_package_that_does_not_want_to_go_costs_no_result(guest: Guest) -> None:
    """Here the program has spoilt the log of what removes it."""
    spoil = "rm $VMBRIDGE_PACKAGES/.log; mkdir $VMBRIDGE_PACKAGES/.log"
    pack(guest, "p.tar", {"bin/worker": f"#!/bin/sh\necho 42 > out; {spoil}\n"})
    run(guest, "program worker", "program_path worker", "package p.tar", "output out")
    assert (guest.read("finished"), guest.read("out/out")) == ("code 0\n", "42\n")
    assert "removing the package p.tar ended with code 126: it said nothing" in guest.log


@pytest.mark.behaviour("B22", "B13")
def test_stop_while_the_program_runs_keeps_the_packages_for_the_next_run(guest: Guest) -> None:
    pack(guest, "p.tar", {"bin/worker": "#!/bin/sh\n[ -e again ] && exit 7\necho > again; exec sleep 60\n"})
    guest.put("task", "protocol 1\nprogram worker\nprogram_path worker\npackage p.tar\n")
    guest.put("command", RUN)
    guest.start()
    until((guest.root / "work/again").exists)
    guest.put("command", STOP)
    guest.await_status(state="ready", ack="2")
    guest.put("command", RUN_AGAIN)
    assert guest.wait() == 0
    assert guest.read("finished") == "code 7\n"
    assert guest.log.count("installing") == guest.log.count("removing") == 1


MANY = {f"many/{n}": "" for n in range(30_000)}
"""So many files that a tool is at work for a while."""


def stopped_child(agent: int, name: str) -> list[psutil.Process]:
    """The process of this name below the agent, made to stand still; none if it is not there (yet)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(agent).children(recursive=True):
            if child.name() == name:
                child.suspend()
                return [child]
    return []


def made_to_stand_still(guest: Guest, name: str) -> psutil.Process:
    assert guest.process is not None
    found: list[psutil.Process] = []
    agent = guest.process.pid

    def stands_still() -> bool:
        found.extend(stopped_child(agent, name))
        return found != []

    until(stands_still, lambda: guest.keys("status"))
    return found[0]


@pytest.mark.behaviour("B22", "B13")
def test_run_after_the_packages_were_removed_installs_them_again(guest: Guest) -> None:
    """`stop` comes while they are being removed, and counts when they are gone."""
    pack(guest, "p.tar", MANY | {"bin/worker": "#!/bin/sh\n[ -e again ] && exit 7; echo > again\n"})
    guest.put("task", "protocol 1\nprogram worker\nprogram_path worker\npackage p.tar\n")
    guest.put("command", RUN)
    guest.start()
    remover = made_to_stand_still(guest, "rm")
    guest.put("command", STOP)
    guest.await_status(state="running", ack="1")
    remover.resume()
    guest.await_status(state="ready", ack="2")
    assert hidden(guest) == [] and guest.read("finished") is None
    guest.put("command", RUN_AGAIN)
    assert guest.wait() == 0
    assert guest.read("finished") == "code 7\n"
    assert guest.log.count("installing") == guest.log.count("removing") == 2


@pytest.fixture
def installing(guest: Guest) -> psutil.Process:
    """A guest that is kept from going on while it unpacks its package."""
    pack(guest, "p.tar.gz", MANY | {"bin/worker": "#!/bin/sh\n"})
    guest.put("task", "protocol 1\nprogram worker\nprogram_path worker\npackage p.tar.gz\n")
    guest.put("command", RUN)
    guest.start()
    return made_to_stand_still(guest, "tar")


@pytest.mark.behaviour("B22", "B12", "B13")
def test_a_checkpoint_may_come_while_a_package_is_installed(guest: Guest, installing: psutil.Process) -> None:
    guest.await_status(state="booting", message="installing p.tar.gz")
    guest.put("command", "protocol 1\nseq 2\nstate prepare\n")
    guest.await_status(state="booting", ack="2")
    guest.put("command", RUN_AGAIN)
    installing.resume()
    assert guest.wait() == 0, guest.log
    assert guest.keys("status")["ack"] == "3" and guest.read("finished") == "code 0\n"
    assert hidden(guest) == []


def test_an_agent_that_is_ended_takes_its_installer_along(guest: Guest, installing: psutil.Process) -> None:
    assert guest.process is not None
    guest.process.send_signal(signal.SIGTERM)
    assert guest.wait() == 143
    until(lambda: not installing.is_running() or installing.status() == psutil.STATUS_ZOMBIE)
