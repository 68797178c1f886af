"""Jobs of several tasks, in a machine and on this host, as the client starts them; and what remains after an end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import psutil
import pytest

from ..chaos.round import compiled
from ..patience import until
from ..standin import Conclusion, End
from .conftest import JobDirectory
from .slots import MakeSlot, Slot

FIRST = """
echo "first $(cat in.txt)" > first.txt
echo "kept on the disk" > left_behind
"""
SECOND = """
cat left_behind checked.txt > second.txt
echo again >> left_behind
[ $(wc -l < left_behind) = 2 ] || exit 7
WAIT
"""


def job_file(image: Path | str) -> str:
    """A job that prepares its input on the host, and looks there at what the machine has made in between."""
    return f"""<job_desc>
    <task><application>prepare</application><command_line>5</command_line><weight>1</weight></task>
    <task><virtualmachine>test</virtualmachine><image>{image}</image><application>first</application>
        <copy_file_to_VM>in.txt</copy_file_to_VM><copy_file_from_VM>first.txt</copy_file_from_VM>
        <checkpoint_period>1</checkpoint_period><weight>4</weight></task>
    <task><application>check</application>
        <stdin_filename>first.txt</stdin_filename><weight>1</weight></task>
    <task><virtualmachine>test</virtualmachine><application>second</application>
        <copy_file_to_VM>checked.txt</copy_file_to_VM><copy_file_from_VM>second.txt</copy_file_from_VM>
        <weight>4</weight></task>
    <zip_output><zipfilename>all.zip</zipfilename><filename>\\.txt$</filename></zip_output>
</job_desc>"""


RESULT = "kept on the disk\nchecked first 5\n"


def tasks(make_slot: MakeSlot, image: Path | str, hypervisor: str, second: str = SECOND, check: str = "") -> Slot:
    """A slot with that job in it; `second` is the second program in the machine, `check` what the host does first."""
    slot = make_slot(hypervisor=hypervisor)
    wait = f"until [ -e {slot.directory.path / 'go'} ]; do sleep 0.1; done"
    programs = {
        "prepare": 'echo "$1" > in.txt',
        "first": FIRST,
        "check": f'{check.replace("WAIT", wait)}\nread line; echo "checked $line" > checked.txt',
        "second": second.replace("WAIT", wait if hypervisor == "local" else "true"),
    }
    for name, script in programs.items():
        slot.directory.add(name, f"#!/bin/sh\n{script}\n")
    slot.job_file.write_text(job_file(image))
    slot.names = set(os.listdir(slot.slot))
    return slot


def is_right(slot: Slot) -> None:
    """The job has ended as it should, and nothing is left but what it made."""
    assert slot.wait() == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    assert slot.read("second.txt") == RESULT
    with zipfile.ZipFile(slot.slot / "all.zip") as archive:
        assert {"first.txt", "second.txt", "checked.txt", "in.txt"} <= set(archive.namelist())
        assert archive.read("second.txt") == RESULT.encode()
    made = {
        "in.txt",
        "first.txt",
        "checked.txt",
        "second.txt",
        "all.zip",
        "wrapper_checkpoint.txt",
        "initial_file_list",
    }
    assert slot.left() == made
    slot.until_nobody()
    assert slot.task.fraction_done == pytest.approx(1.0)
    assert (slot.read("wrapper_checkpoint.txt") or "").startswith("4 ")


@pytest.fixture(params=["local", "qemu"])
def hypervisor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What machines run on; QEMU with a slow disk, which writes down what it does."""
    if request.param == "qemu":
        program = shutil.which("qemu-system-x86_64")
        (tmp_path / "slow").mkdir()
        slow = tmp_path / "slow/qemu-system-x86_64"
        slow.write_text(SLOW_DISK.replace("PROGRAM", repr(program)).replace("TRACES", repr(str(tmp_path / "trace"))))
        slow.chmod(0o755)
        monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    return str(request.param)


SLOW_DISK = f"""#!{sys.executable}
import os, sys
node, *words = "", *sys.argv[1:]
for at, word in enumerate(words):
    if word.startswith("driver=qcow2,"):
        words[at], node = word.split(",node-name=")
        words[at] += ",node-name=fast"
if node:
    words += ["-object", "throttle-group,id=slow,x-iops-write=30"]
    words += ["-blockdev", "driver=throttle,throttle-group=slow,file=fast,node-name=" + node]
    for event in ("virtio_blk_handle_write", "virtio_blk_rw_complete", "qcow2_cache_flush"):
        words += ["-trace", event]
    words += ["-D", TRACES + "." + str(os.getpid())]
os.execv(PROGRAM, [PROGRAM, *words])
"""


def unflushed(trace: str) -> int:
    """Return how many writes came to their end after the last flush of a disk's cache."""
    count, writes = 0, set()
    for event, *words in map(str.split, trace.splitlines()):
        if event == "qcow2_cache_flush":
            count = 0
        elif event == "virtio_blk_handle_write":
            writes.add(words[words.index("req") + 1])
        elif (request := words[words.index("req") + 1]) in writes:
            writes.remove(request)
            count += 1
    return count


def test_tasks_share_the_disk_of_their_machine(
    make_slot: MakeSlot, image: Path, hypervisor: str, tmp_path: Path
) -> None:
    """A machine ended while QEMU still had folders of its disk in a cache: one sync() flushes before it writes them."""
    slot = tasks(make_slot, image, hypervisor)
    slot.go()
    slot.run()
    is_right(slot)
    told = slot.stderr()
    assert "task 1 of 4: prepare, on this host" in told and "task 4 of 4: second, in the machine" in told
    traces = [trace.read_text() for trace in tmp_path.glob("trace.*")]
    assert len(traces) == (2 if hypervisor == "qemu" else 0)
    assert all("handle_write" in trace and not unflushed(trace) for trace in traces)


@pytest.mark.parametrize("how", ["quit", "kill"])
def test_a_task_that_begins_anew_finds_the_disk_as_the_last_one_left_it(make_slot: MakeSlot, how: str) -> None:
    """The program appends to a file that the task before has left: twice would be wrong."""
    slot = tasks(make_slot, "none", "local")
    slot.run()
    slot.until_told("task 4 of 4")
    until(lambda: any((slot.slot / "machine/work").glob("second.txt")), slot.stderr)
    slot.order("quit") if how == "quit" else os.kill(slot.pid, signal.SIGKILL)
    slot.wait()
    slot.until_nobody()
    assert (slot.slot / ".vmbridge.machine.1/work/left_behind").read_text() == "kept on the disk\n"
    slot.go()
    slot.run()
    is_right(slot)
    assert slot.stderr().count("task 1 of 4") == 1, "what is done is not done again"


LONG = """
cat left_behind checked.txt > second.txt
echo again >> left_behind
[ $(wc -l < left_behind) = 2 ] || exit 7
n=0
while [ $n -lt 60 ]; do
    n=$((n + 1))
    awk "BEGIN { print $n / 60 }" > $VMBRIDGE_SPOOL/.new && mv $VMBRIDGE_SPOOL/.new $VMBRIDGE_SPOOL/fraction_done
    sleep 0.1
done
"""


def test_the_second_machine_is_restored_too(make_slot: MakeSlot, image: Path) -> None:
    slot = tasks(make_slot, image, "qemu", LONG)
    slot.run()
    slot.until_told("task 4 of 4")
    slot.until(lambda: slot.stderr().count("booting -> running") == 2, "the second machine")
    slot.order("quit")
    slot.wait()
    slot.run()
    is_right(slot)
    assert "restored from" in slot.stderr()


CALLS = [
    ("rename", 1, "wrapper_checkpoint.txt"),  # nothing is done
    ("rename", 2, "wrapper_checkpoint.txt"),  # a task of the host
    ("rename", 3, "wrapper_checkpoint.txt"),  # the first one in the machine, whose disk is wanted
    ("rename", 4, "wrapper_checkpoint.txt"),
    ("rename", 5, "wrapper_checkpoint.txt"),  # the last one
    ("rename", 1, "initial_file_list"),
    ("rename", 1, "/.vmbridge.machine.1"),  # it is set aside
    ("mkdir", 2, "/machine"),
    ("rename", 1, "second.txt"),
    ("rename", 1, "all.zip"),
    ("rename", 1, ".vmbridge.home"),
    ("unlink", 1, ".vmbridge"),
]
BEFORE, AFTER = -1, -2


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets a process die at one of its calls."""
    return compiled(tmp_path_factory.mktemp("calls")) / "calls.so"


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize(("operation", "number", "path"), CALLS)
def test_each_step_can_be_the_last_of_a_start(
    make_slot: MakeSlot, calls: Path, operation: str, number: int, path: str, when: int
) -> None:
    """Whatever is on the disk then, the next start goes on from there, and does nothing twice that would show."""
    slot = tasks(make_slot, "none", "local")
    slot.go()
    hit = slot.directory.path / "hit"
    slot.run(
        environment={
            **os.environ,
            "LD_PRELOAD": str(calls),
            "CHAOS_CALL": f"{operation} {number} {when} 1 {path}",
            "CHAOS_HIT": str(hit),
        }
    )
    slot.wait()
    assert hit.exists() and slot.status == -signal.SIGKILL, slot.stderr()
    slot.until_nobody()
    slot.run()
    is_right(slot)


def test_a_machine_between_its_tasks_is_not_lost(make_slot: MakeSlot) -> None:
    """The first machine has ended, the second has not begun, and a program of the host runs."""
    slot = tasks(make_slot, "none", "local", check="WAIT")
    slot.run()
    slot.until_told("task 3 of 4")
    os.kill(slot.pid, signal.SIGKILL)
    slot.wait()
    slot.until_nobody()
    slot.go()
    slot.run()
    is_right(slot)


def test_a_job_of_the_host_needs_nothing_of_ours(make_slot: MakeSlot) -> None:
    """No machine, no folder of the bridge's: `shared` and `machine` are the job's own names."""
    slot = make_slot()
    slot.directory.add("one", "#!/bin/sh\nmkdir shared machine\necho one > shared/a\n")
    slot.directory.add("two", "#!/bin/sh\ncat shared/a > out.txt\necho two >&2\n")
    slot.job_file.write_text(
        "<job_desc><task><application>one</application></task><task><application>two</application></task></job_desc>"
    )
    result = slot.directory.output("out.txt", "molecule_42_0_0")
    slot.names = set(os.listdir(slot.slot))
    slot.run()
    assert slot.wait() == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    assert (slot.slot / "shared/a").read_text() == "one\n" and "two\n" in slot.stderr()
    assert (slot.read("out.txt") or "").startswith("<soft_link>") is False or result.exists()


def test_a_program_of_the_host_that_fails(make_slot: MakeSlot) -> None:
    slot = make_slot()
    slot.directory.add("one", "#!/bin/sh\nexit 3\n")
    slot.job_file.write_text("<job_desc><task><application>one</application></task></job_desc>")
    slot.run()
    ended = slot.wait()
    assert (ended.end, ended.code) == (End.ERROR, 195), slot.stderr()
    assert "the program one ended with status 3" in slot.stderr()


def test_for_people_too(tmp_path: Path) -> None:
    job = JobDirectory(tmp_path)
    (tmp_path / "job.xml").write_text(
        "<job_desc><task><application>./one</application><stdout_filename>out.txt</stdout_filename></task></job_desc>"
    )
    (tmp_path / "one").write_text("#!/bin/sh\necho done\n")
    (tmp_path / "one").chmod(0o755)
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == "done\n"
    assert job.left() == []


def test_ctrl_c_ends_a_program_of_the_host(tmp_path: Path) -> None:
    job = JobDirectory(tmp_path)
    (tmp_path / "job.xml").write_text("<job_desc><task><application>one</application></task></job_desc>")
    (tmp_path / "one").write_text("#!/bin/sh\necho $$ > pid.new; mv pid.new pid\nexec sleep 1000\n")
    (tmp_path / "one").chmod(0o755)
    process = job.start()
    job.wait_for("pid")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_what_a_killed_start_has_left_does_not_run_beside_the_next(make_slot: MakeSlot) -> None:
    """The client kills all that it sees below a program that does not end, so nobody is left to end the rest."""
    slot = make_slot()
    slot.directory.add("one", "#!/bin/sh\n(setsid sh -c 'echo $$ > new; mv new pid; sleep 1000' &)\nWAIT\n".replace(
        "WAIT", f"until [ -e {slot.directory.path / 'go'} ]; do sleep 0.1; done"))  # fmt: skip
    slot.job_file.write_text("<job_desc><task><application>one</application></task></job_desc>")
    slot.run()
    slot.until(lambda: (slot.slot / "pid").exists(), "the daemon")
    daemon = psutil.Process(int((slot.slot / "pid").read_text()))
    above = [psutil.Process(slot.pid), *psutil.Process(slot.pid).children(recursive=True)]
    for process in above:
        if process != daemon and process.pid not in [child.pid for child in daemon.children()]:
            process.kill()
    slot.wait()
    assert daemon.is_running(), "the keeper is gone, too"
    slot.go()
    slot.run()
    assert slot.wait().end is End.SUCCESS, slot.stderr()
    assert "an earlier start had left were ended" in slot.stderr()
    until(lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE, lambda: "it lives on")
