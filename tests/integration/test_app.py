"""`vmbridge-app` as the client starts it: each row of what the client makes of exits and files, without a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import psutil
import pytest

from ..standin import Conclusion, End, Kind
from ..standin.client import FINISH_FILE, TEMPORARY_EXIT_FILE
from ..standin.data_directory import NEW, OLD, Version
from ..standin.task import number
from .slots import PROGRAM, MakeSlot, Slot, descriptors

FOR_EVER = "while :; do sleep 1; done"
OUTPUT = "<copy_file_from_VM>out.txt</copy_file_from_VM>"


# The end of the work


@pytest.mark.parametrize(("version", "kind"), [(OLD, Kind.FILE), (NEW, Kind.FILE), (OLD, Kind.SYSTEM_V)])
def test_success(make_slot: MakeSlot, version: Version, kind: Kind) -> None:
    elements = f"<copy_file_to_VM>link.txt</copy_file_to_VM><copy_file_to_VM>copy.txt</copy_file_to_VM>{OUTPUT}"
    slot = make_slot("cat link.txt copy.txt > out.txt", elements, version=version, kind=kind, wu_cpu_time=100.0)
    slot.directory.add("link.txt", "behind a link\n")
    slot.directory.add("copy.txt", "a copy\n", copy=True)
    result = slot.directory.output("out.txt", "molecule_42_0_0")
    slot.names = set(os.listdir(slot.slot))
    slot.run()
    assert slot.wait() == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    assert result.read_text() == "behind a link\na copy\n"
    assert slot.read(FINISH_FILE) == "0\nfinished\n\n"
    assert slot.left() == set()
    slot.until_nobody()
    assert slot.task.current_cpu_time >= 100.0 == slot.task.checkpoint_cpu_time
    assert {version[0], version[1]} == {int(part) for part in re.findall(r"client (\d+)\.(\d+)", slot.stderr())[0]}


def test_what_the_client_says_of_the_job_reaches_the_program(make_slot: MakeSlot) -> None:
    """And nothing that says who the volunteer is; the stand-in's file has all that a real one has."""
    slot = make_slot("cat $VMBRIDGE_SPOOL/init_data > out.txt", OUTPUT, wu_cpu_time=100.0)
    slot.run()
    assert slot.wait().end is End.SUCCESS, slot.stderr()
    told = slot.read("out.txt") or ""
    assert {"app_name molecules & more", "wu_name molecule_42", "wu_cpu_time 100.0", "p_fpops 1000000000.0"} <= set(
        told.splitlines()
    )
    for secret in ("d0c5ec2e", "Ada", "0123456789abcdef", "127.0.0.1", "blue", str(slot.slot)):
        assert secret not in told and secret in (slot.read("init_data.xml") or "") + str(slot.slot)


def test_the_programs_cpu_time_where_the_job_says_so(make_slot: MakeSlot) -> None:
    slot = make_slot(
        "echo cpu_seconds 4000 > $VMBRIDGE_SPOOL/creditreport; WAIT", "<cpu_time>guest</cpu_time>", wu_cpu_time=100.0
    )
    slot.run()
    slot.until(lambda: slot.task.current_cpu_time >= 4100.0, "the guest's own figure, after what was told before")
    slot.go()
    assert slot.wait().end is End.SUCCESS, slot.stderr()
    assert 4100.0 <= slot.task.current_cpu_time < 4200.0


def test_an_output_that_the_client_will_copy_lies_in_the_slot(make_slot: MakeSlot) -> None:
    slot = make_slot("echo 42 > out.txt", OUTPUT)
    slot.run()
    assert slot.wait().end is End.SUCCESS
    assert slot.read("out.txt") == "42\n" and slot.left() == {"out.txt"}


@pytest.mark.parametrize(("code", "status"), [(1, 1), (7, 7), (255, 255), (256, 195), (-1, 195)])
def test_the_programs_code_reaches_the_project(make_slot: MakeSlot, code: int, status: int) -> None:
    slot = make_slot(hypervisor="plain")
    slot.run()
    slot.until(lambda: slot.read("shared/command"), "the command")
    say(slot, "stderr", "no such molecule\n")
    say(slot, "finished", f"code {code}\nmessage bad input\n")
    assert slot.wait() == Conclusion(End.ERROR, code=status)
    assert (slot.read(FINISH_FILE) or "").startswith(f"{status}\nthe program ended with code {code}: bad input\n")
    assert slot.left() == set()


def test_the_end_of_the_programs_stderr_is_what_the_project_sees(make_slot: MakeSlot) -> None:
    slot = make_slot("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done >&2; exit 3")
    slot.run()
    assert slot.wait() == Conclusion(End.ERROR, code=3)
    assert "line 299" in slot.stderr() and "line 100\n" not in slot.stderr()


def test_a_signal_that_kills_the_program_is_no_signal_that_killed_us(make_slot: MakeSlot) -> None:
    slot = make_slot("kill -SEGV $$")
    slot.run()
    assert slot.wait() == Conclusion(End.ERROR, code=139)


def test_a_missing_output_is_an_error(make_slot: MakeSlot) -> None:
    slot = make_slot("true", OUTPUT)
    slot.directory.output("out.txt", "molecule_42_0_0")
    slot.run()
    assert slot.wait() == Conclusion(End.ERROR, code=195)
    assert "out.txt is missing" in slot.stderr()


@pytest.mark.parametrize(("number_in_file", "status"), [(0, 0), (7, 7), (206, 206), (256, 1), (-1, 255)])
def test_a_finish_file_at_the_start_ends_it_at_once(make_slot: MakeSlot, number_in_file: int, status: int) -> None:
    slot = make_slot("echo again > out.txt", OUTPUT)
    (slot.slot / FINISH_FILE).write_text(f"{number_in_file}\nlong ago\n\n")
    slot.run()
    concluded = slot.wait()
    assert slot.status == status
    assert concluded == (Conclusion(End.SUCCESS, reason="long ago") if status == 0 else Conclusion(End.ERROR, status))
    assert slot.stderr() == "" and slot.left() == set()


# What is broken


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--frobnicate",), "the option '--frobnicate' is not known"),
        (("--nthreads", "none"), "--nthreads takes a number"),
        (("--trickle",), "--trickle"),
    ],
)
def test_an_option_that_is_not_served(make_slot: MakeSlot, words: tuple[str, ...], expected: str) -> None:
    slot = make_slot()
    slot.run(*words)
    assert slot.wait() == Conclusion(End.ERROR, code=206)
    assert expected in slot.stderr() and "Traceback" not in slot.stderr()
    assert (slot.read(FINISH_FILE) or "").startswith("206\n") and expected in (slot.read(FINISH_FILE) or "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "job.xml"),
        ("<job_desc><task>", "job.xml"),
        ("<job_desc><task></task></job_desc>", "<application>"),
    ],
)
def test_a_broken_job_file(make_slot: MakeSlot, content: str | None, expected: str) -> None:
    slot = make_slot()
    slot.job_file.unlink() if content is None else slot.job_file.write_text(content)
    slot.run()
    assert slot.wait() == Conclusion(End.ERROR, code=206)
    assert expected in slot.stderr() and "Traceback" not in slot.stderr()
    assert (slot.read(FINISH_FILE) or "").startswith("206\n") and slot.left() == set()


def test_a_missing_image(make_slot: MakeSlot) -> None:
    slot = make_slot(hypervisor="qemu", image="image")
    slot.run()
    assert slot.wait() == Conclusion(End.ERROR, code=206)
    assert "image" in slot.stderr() and slot.left() == set()


def test_a_missing_input(make_slot: MakeSlot) -> None:
    slot = make_slot("true", "<copy_file_to_VM>in.txt</copy_file_to_VM>")
    slot.directory.link("in.txt", "never_downloaded")
    slot.run()
    assert slot.wait() == Conclusion(End.ERROR, code=206)
    assert "never_downloaded" in slot.stderr()


# Trouble of the host


def test_no_hypervisor_is_a_matter_for_the_volunteer(make_slot: MakeSlot, tmp_path: Path) -> None:
    slot = make_slot(hypervisor="qemu")
    slot.start(slot.app, environment={**os.environ, "PATH": str(tmp_path / "empty")})
    concluded = slot.wait()
    assert concluded.end is End.TEMPORARY_EXIT and concluded.delay_s == 3600 and concluded.notice
    assert concluded.reason.startswith("qemu-system-x86_64 is not in PATH. Install QEMU (Debian: apt-get install")
    assert slot.status == 0
    assert slot.read(FINISH_FILE) is None and slot.left() == set()


def test_a_broken_hypervisor_is_a_matter_for_the_volunteer(make_slot: MakeSlot, tmp_path: Path, image: Path) -> None:
    slot = make_slot(hypervisor="qemu", image=image)
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("qemu-system-x86_64", "qemu-img"):
        (stubs / name).write_text("#!/bin/sh\necho broken on purpose >&2\nexit 1\n")
        (stubs / name).chmod(0o755)
    slot.run(environment={**os.environ, "PATH": f"{stubs}:{os.environ['PATH']}"})
    concluded = slot.wait()
    assert (concluded.end, concluded.delay_s) == (End.TEMPORARY_EXIT, 3600) and concluded.notice
    assert concluded.reason == "qemu-system-x86_64 does not run: broken on purpose. Install QEMU again."
    assert "--version ended with status 1: broken on purpose" in slot.stderr() and slot.status == 0
    assert slot.read(FINISH_FILE) is None and slot.left() == set()
    slot.until_nobody()


def test_a_machine_that_ends_by_itself_is_tried_again(make_slot: MakeSlot) -> None:
    slot = make_slot(FOR_EVER)
    slot.run()
    slot.until_running()
    slot.machine().kill()
    concluded = slot.wait()
    assert (concluded.end, concluded.delay_s) == (End.TEMPORARY_EXIT, 300), slot.stderr()
    assert "the machine ended" in concluded.reason and slot.status == 0
    assert slot.read(FINISH_FILE) is None


def test_a_slot_that_is_locked_is_waited_for(make_slot: MakeSlot) -> None:
    slot = make_slot("echo 42 > out.txt", OUTPUT)
    with (slot.slot / "boinc_lockfile").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        slot.run()
        slot.until_told("waiting for up to 35 seconds")
        assert slot.read("shared/command") is None
    assert slot.wait().end is End.SUCCESS
    assert slot.read("out.txt") == "42\n" and slot.left() == {"out.txt"}


def test_without_shared_memory_it_comes_back_later(make_slot: MakeSlot) -> None:
    slot = make_slot(shm_key=0x0BAD0BAD)
    slot.run()
    concluded = slot.wait()
    assert (concluded.end, concluded.delay_s) == (End.TEMPORARY_EXIT, 60)
    assert "cannot be talked to" in concluded.reason and slot.left() == set()


# Orders


@pytest.mark.parametrize("how", ["quit", "SIGTERM", "SIGINT", "SIGHUP"])
def test_quit_leaves_nothing_and_the_job_can_be_started_again(make_slot: MakeSlot, how: str) -> None:
    slot = make_slot("WAIT; echo 42 > out.txt", OUTPUT)
    slot.run()
    slot.until_running()
    slot.order("quit") if how == "quit" else os.kill(slot.pid, signal.Signals[how])
    concluded = slot.wait()
    assert concluded.end is (End.LATER if how == "quit" else End.PREMATURE_EXIT) and slot.status == 0
    assert slot.read(FINISH_FILE) is None and slot.read(TEMPORARY_EXIT_FILE) is None
    slot.until_nobody()
    assert slot.left() == set()
    slot.go()
    slot.run()
    assert slot.wait().end is End.SUCCESS
    assert slot.read("out.txt") == "42\n"


def test_a_client_that_dies_is_noticed(make_slot: MakeSlot) -> None:
    slot = make_slot(FOR_EVER)
    slot.run()
    slot.until_running()
    slot.kill_client()
    assert slot.wait().end is End.PREMATURE_EXIT and slot.status == 0
    assert slot.read(FINISH_FILE) is None and slot.read(TEMPORARY_EXIT_FILE) is None
    slot.until_nobody()
    assert slot.left() == set()


def test_abort(make_slot: MakeSlot) -> None:
    slot = make_slot(FOR_EVER)
    slot.run()
    slot.until_running()
    slot.order("abort")
    assert slot.wait().end is End.ABORTED and slot.status == 194
    assert slot.read(FINISH_FILE) is None and slot.read(TEMPORARY_EXIT_FILE) is None
    slot.until_nobody()
    assert slot.left() == set()


def test_suspend_and_resume(make_slot: MakeSlot) -> None:
    slot = make_slot(FOR_EVER)
    slot.run()
    slot.until_running()
    slot.order("suspend")
    slot.until(lambda: stopped(slot), "the pause")
    before = len(slot.statuses())
    slot.until(lambda: len(slot.statuses()) >= before + 2, "a status in the pause")
    slot.order("resume")
    slot.until(lambda: not stopped(slot), "the end of the pause")
    slot.order("quit")
    assert slot.wait().end is End.LATER


def test_a_suspended_job_can_be_aborted(make_slot: MakeSlot) -> None:
    slot = make_slot(FOR_EVER)
    slot.run()
    slot.order("suspend")
    slot.until(lambda: stopped(slot), "the pause")
    slot.order("abort")
    assert slot.wait().end is End.ABORTED and slot.status == 194
    slot.until_nobody()


def test_a_client_that_limits_the_processor_by_orders_gets_its_result(make_slot: MakeSlot) -> None:
    slot = make_slot("WAIT; echo 42 > out.txt", OUTPUT)
    slot.run()
    for number_of_order in range(8):
        order = "resume" if number_of_order % 2 else "suspend"
        slot.order(order)
        slot.until(lambda: slot.sent[-1].read_ns, "the reading")
    slot.go()
    assert slot.wait().end is End.SUCCESS, slot.stderr()
    assert [one.order for one in slot.sent] == ["suspend", "resume"] * 4


def test_new_preferences_change_nothing(make_slot: MakeSlot) -> None:
    slot = make_slot(hypervisor="plain")
    slot.run()
    slot.until(lambda: slot.read("shared/command"), "the command")
    slot.rewrite_init_data(checkpoint_period=7.0)
    slot.order("reread_app_info")
    slot.until(lambda: slot.sent[-1].read_ns, "the reading")
    say(slot, "finished", "code 0\n")
    assert slot.wait().end is End.SUCCESS


def test_a_machine_for_which_there_is_not_enough_memory_now_is_postponed(make_slot: MakeSlot) -> None:
    """The client used to abort the job with code 198, after the machine had filled its memory."""
    slot = make_slot(hypervisor="plain", elements="<memory_size_mb>512</memory_size_mb>")
    slot.heartbeat = "<heartbeat/><wss>0</wss><max_wss>2e8</max_wss>"
    slot.run()
    concluded = slot.wait()
    assert concluded.end is End.TEMPORARY_EXIT and not concluded.notice, slot.stderr()
    assert "the machine needs 512 MB of memory, and BOINC may use 190 MB now" in concluded.reason
    assert slot.left() == set()


def test_a_job_that_takes_more_of_the_disk_than_it_may_ends_and_says_so(make_slot: MakeSlot) -> None:
    """The client used to end it, some minutes later, and nobody was told what had been too large."""
    slot = make_slot(hypervisor="plain", rsc_disk_bound=1e9)
    slot.run()
    slot.until(lambda: slot.read("shared/command"), "the command")
    with (slot.slot / "shared" / "sparse").open("wb") as file:
        file.truncate(2_000_000_000)
    concluded = slot.wait()
    assert (concluded.end, concluded.code) == (End.ERROR, 196), slot.stderr()
    assert "the job takes 1,907 MB of the disk, and the project allows it 953 (rsc_disk_bound)" in slot.stderr()
    assert slot.left() == set()


# What is told


def test_what_the_client_is_told(make_slot: MakeSlot) -> None:
    slot = make_slot(hypervisor="plain", version=NEW, wu_cpu_time=50.0)
    slot.run()
    slot.until(lambda: slot.read("shared/command"), "the command")
    slot.until(lambda: len(slot.statuses()) >= 2, "two statuses")
    assert not [one for one in slot.statuses() if "<fraction_done>" in one.text], "nothing is known yet"
    say(slot, "fraction_done", "0.25\n")
    slot.until(lambda: slot.task.fraction_done == 0.25, "the fraction")
    say(slot, "creditreport", "fpops 1.5e9\nintops 2000000\n")
    slot.until(lambda: slot.task.fpops_cumulative == 1.5e9 and slot.task.intops_cumulative == 2e6, "the operations")
    beat = len(slot.statuses())
    slot.until(lambda: len(slot.statuses()) >= beat + 3, "statuses although nothing changes")
    say(slot, "finished", "code 0\nmessage well done\n")
    assert slot.wait() == Conclusion(End.SUCCESS, reason="well done")
    for message in slot.statuses():
        current, checkpoint = (number(message.text, tag) for tag in ("current_cpu_time", "checkpoint_cpu_time"))
        assert current is not None and checkpoint is not None and current >= checkpoint >= 50.0
        assert "other_pid" not in message.text
    assert slot.task.checkpoints == 0 and slot.task.fraction_done == 0.25 and slot.task.wss


def test_a_client_that_looks_once_a_second_sees_it_all(make_slot: MakeSlot) -> None:
    slot = make_slot(hypervisor="plain", drain_every_s=1.0)
    slot.run()
    slot.until(lambda: slot.read("shared/command"), "the command")

    def sees(fraction: float) -> bool:
        return slot.task.fraction_done == fraction

    for fraction in (0.25, 0.5):
        say(slot, "fraction_done", f"{fraction}\n")
        slot.until(partial(sees, fraction), "the fraction")
    say(slot, "finished", "code 0\n")
    assert slot.wait().end is End.SUCCESS


def test_what_is_the_clients_is_not_handed_on(make_slot: MakeSlot) -> None:
    slot = make_slot(FOR_EVER)
    theirs = {(status.st_dev, status.st_ino) for status in map(os.fstat, slot.inherited)}
    slot.run()
    slot.until_running()
    machine = slot.machine()
    assert not theirs & descriptors(machine)
    assert not theirs & descriptors(psutil.Process(slot.pid)), "and we keep nothing open either"
    assert os.getsid(machine.pid) != os.getsid(slot.pid)
    assert "LD_LIBRARY_PATH" not in machine.environ()
    slot.order("abort")
    assert slot.wait().end is End.ABORTED


# Accidents


def test_a_bridge_that_is_killed_takes_its_guest_along_and_the_next_cleans_up(make_slot: MakeSlot) -> None:
    slot = make_slot("WAIT; echo 42 > out.txt", OUTPUT)
    slot.run()
    slot.until_running()
    os.kill(slot.pid, signal.SIGKILL)
    assert slot.wait().end is End.RESTART
    slot.go()
    slot.run()
    assert slot.wait().end is End.SUCCESS
    assert slot.read("out.txt") == "42\n" and slot.left() == {"out.txt"}


def test_without_a_client_it_works_in_any_folder(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("#!/bin/sh\ncat in.txt > out.txt\n")
    (tmp_path / "in.txt").write_text("12\n")
    (tmp_path / "job.xml").write_text(
        "<job_desc><task><virtualmachine>vm</virtualmachine><image>none</image><application>worker</application>"
        f"<copy_file_to_VM>in.txt</copy_file_to_VM>{OUTPUT}</task></job_desc>"
    )
    command: list[str | Path] = [PROGRAM, "--hypervisor", "local"]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == "12\n" and (tmp_path / FINISH_FILE).read_text().startswith("0\n")
    assert {name for name in os.listdir(tmp_path) if name[0] != "."} == {
        FINISH_FILE,
        "in.txt",
        "job.xml",
        "out.txt",
        "worker",
    }
    assert "without a BOINC client" in done.stderr


def stopped(slot: Slot) -> bool:
    """Say whether the guest's processes, of which there are some, stand still."""
    states = []
    for one in slot.others():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended, so it did not stand still
            if not any("bridge.host.keeper" in word for word in one.cmdline()):  # which watches over them
                states.append(one.status())
    # A shell whose child was stopped before it became another program waits for it in the kernel (vfork).
    still = (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP)
    return psutil.STATUS_STOPPED in states and all(state in still for state in states)


def say(slot: Slot, name: str, content: str) -> None:
    """Play the guest: publish a file in the folder of a `plain` machine."""
    folder = slot.slot / "shared"
    (folder / f".{name}.tmp").write_text(content)
    shutil.move(folder / f".{name}.tmp", folder / name)
