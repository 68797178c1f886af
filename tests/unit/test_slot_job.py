"""A job in a slot, where every name is a link into the project's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bridge import for_client
from bridge.client.init_data import InitData
from bridge.client.slot import FINISH, TEMPORARY_EXIT, Slot
from bridge.errors import JobFileError
from bridge.for_client import MAX_CPUS, _adapted, _adapted_task, priority_on_host
from bridge.guest.collect import collect
from bridge.guest.stage import stage_in
from bridge.home import HOME, Home, read_home, write_home
from bridge.image import load_image
from bridge.job import HostTask, Job, MachineTask, read_job
from bridge.life.accounting import Progress
from bridge.on_host import OnHost
from bridge.options import Options
from bridge.verdict import Finish, TemporaryExit
from protocol.files import Door
from protocol.layout import OUT, Share

from ..conftest import REPOSITORY

JOB = """<job_desc><task><virtualmachine>vm</virtualmachine><image>image</image><application>worker</application>
<copy_file_to_VM>in.txt</copy_file_to_VM><copy_file_from_VM>out.txt</copy_file_from_VM></task></job_desc>
"""
MANIFEST = f"""{{"format": "vmbridge-image 1", "kind": "boot", "arch": "x86_64", "kernel": "vmlinux",
"initramfs": "initramfs.cpio", "work_disk": null, "cmdline": "quiet", "static_programs_only": true,
"sha256": {{"vmlinux": "{"0" * 64}", "initramfs.cpio": "{"0" * 64}"}}}}"""


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    slot, project = tmp_path / "slots/0", tmp_path / "projects/p"
    (slot / "image").mkdir(parents=True)
    project.mkdir(parents=True)
    contents = {
        "job.xml": JOB,
        "worker": "#!/bin/sh\n",
        "in.txt": "12\n",
        "out.txt": None,
        "image/image.json": MANIFEST,
        "image/vmlinux": "kernel",
        "image/initramfs.cpio": "initramfs",
    }
    for name, content in contents.items():
        physical = f"{name.replace('/', '_')}_0123abcd"
        (slot / name).write_text(f"<soft_link>../../projects/p/{physical}</soft_link>\n")
        if content is not None:
            (project / physical).write_text(content)
    return Slot(slot)


def test_everything_is_found_through_its_link(slot: Slot) -> None:
    [job] = read_job(slot.directory, slot.resolve).machine_tasks
    share = Share.two_folders(slot.directory / "shared")
    stage_in(job, share, agent=None, static_only=False)
    assert (share.host / "in/worker").read_text() == "#!/bin/sh\n", "under the name that the job file uses"
    assert (share.host / "in/in.txt").read_text() == "12\n"
    image = load_image(job.image, job.resolve)
    assert image.kernel.read_text() == "kernel" and image.initramfs.read_text() == "initramfs"


def test_a_result_goes_where_its_link_points(slot: Slot) -> None:
    [job] = read_job(slot.directory, slot.resolve).machine_tasks
    guest = slot.directory / "shared/guest"
    (guest / OUT).mkdir(parents=True)
    (guest / OUT / "out.txt").write_text("-4.25\n")
    with Door(guest) as door:
        brought = collect(door, {name: job.path(name) for name in job.results}, slot.directory)
    project = slot.directory.parent.parent / "projects/p"
    assert brought == [project / "out.txt_0123abcd"]
    assert brought[0].read_text() == "-4.25\n"
    assert (slot.directory / "out.txt").read_text().startswith("<soft_link>"), "the link itself stays"


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no second file system here")
def test_a_result_crosses_to_another_file_system(tmp_path: Path) -> None:
    guest = tmp_path / "guest"
    (guest / OUT).mkdir(parents=True)
    (guest / OUT / "a").write_text("result")
    place = Path("/dev/shm") / f"vmbridge-test-{os.getpid()}" / "wu_1_0_0"
    place.parent.mkdir()
    try:
        if place.parent.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own here")
        with Door(guest) as door:
            assert collect(door, {"a": place}, tmp_path) == [place]
        assert place.read_text() == "result"
        assert os.listdir(place.parent) == [place.name] and not (tmp_path / "result").exists()
    finally:
        for left in place.parent.iterdir():
            left.unlink()
        place.parent.rmdir()


def test_a_job_file_that_was_not_downloaded_is_told_with_its_target(slot: Slot) -> None:
    (slot.directory.parent.parent / "projects/p/job.xml_0123abcd").unlink()
    with pytest.raises(JobFileError, match=r"job\.xml: it stands for .*/projects/p/job\.xml_0123abcd, which cannot be"):
        read_job(slot.directory, slot.resolve)


def test_a_link_to_nowhere_is_told_with_its_target(slot: Slot) -> None:
    (slot.directory.parent.parent / "projects/p/in.txt_0123abcd").unlink()
    [job] = read_job(slot.directory, slot.resolve).machine_tasks
    with pytest.raises(JobFileError, match=r"projects/p/in\.txt_0123abcd does not exist"):
        stage_in(job, Share.two_folders(slot.directory / "shared"), agent=None, static_only=False)


@pytest.mark.parametrize(
    ("job", "client", "options", "expected"),
    [
        ({}, InitData(), Options(), (1, 256, None)),
        ({}, InitData(ncpus=1.5, checkpoint_period=60), Options(), (2, 256, 60)),
        ({"cpus": 4}, InitData(ncpus=2), Options(), (4, 256, None)),
        ({"cpus": 4}, InitData(ncpus=2), Options(cpus=3, memory_mb=512), (3, 512, None)),
        ({}, InitData(ncpus=1e6), Options(), (MAX_CPUS, 256, None)),
        ({"checkpoint_period": 600.0}, InitData(checkpoint_period=60), Options(), (1, 256, 600)),
        ({"checkpoint_period": 10.0}, InitData(checkpoint_period=60), Options(), (1, 256, 60)),
    ],
)
def test_what_the_job_file_leaves_open(
    job: dict[str, float], client: InitData, options: Options, expected: tuple[object, ...]
) -> None:
    plain = MachineTask(Path("/slot/job.xml"), "vm", Path("/slot/image"), "worker")
    adapted = _adapted_task(replace(plain, **job), client, options)  # type: ignore[arg-type]
    assert (adapted.cpus, adapted.memory_mb, adapted.checkpoint_period) == expected


@pytest.mark.parametrize(("takes", "arguments"), [(True, ("a", "b")), (False, ("a",))])
def test_more_arguments_go_to_a_program_that_takes_them(takes: bool, arguments: tuple[str, ...]) -> None:
    job = MachineTask(Path("/slot/job.xml"), "vm", Path("i"), "worker", arguments=("a",), takes_more_arguments=takes)
    assert _adapted_task(job, InitData(), Options(arguments=("b",))).arguments == arguments


def test_the_clients_own_stderr_is_not_replaced_by_the_programs() -> None:
    job = MachineTask(Path("/slot/job.xml"), "vm", Path("i"), "worker", outputs=("a", "stderr.txt"))
    whole = Job(job.file, (replace(job, stderr="stderr.txt"), HostTask("h", stdout="stderr.txt", stderr="e")))
    in_machine, on_host = _adapted(whole, None, Options()).tasks
    assert isinstance(in_machine, MachineTask)
    assert in_machine.results == ("a",), "old job files name it so, to have it appended"
    assert (on_host.stdout, on_host.stderr) == (None, "e"), "that is where it goes anyway"


def test_a_disk_too_full_for_the_finish_file_is_no_error(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(for_client, "_WRITE_AGAIN_S", 0.0)
    (slot.directory / f".{FINISH}.tmp").mkdir()
    assert for_client._end(slot, Finish(0, "done")) == 0, "started again, it finds that the results are home"
    assert for_client._end(slot, Finish(195, "no")) == 0
    assert slot.finished() is None
    (slot.directory / f".{FINISH}.tmp").rmdir()
    assert for_client._end(slot, Finish(195, "no")) == 195 and slot.finished() == 195


def test_the_record_that_the_results_are_home(tmp_path: Path) -> None:
    assert read_home(tmp_path) is None
    home = Home("all done", Progress(fraction_done=1.0, cpu_seconds=12.5, fpops=1e9))
    write_home(tmp_path, home)
    assert read_home(tmp_path) == home


@pytest.mark.parametrize(
    "content", [b"", b"code 0", b"\xff\n", b"[]", b'{"message": "done"}', b"[" * 60_000, b"x" * 70_000]
)
def test_a_broken_record_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HOME).write_bytes(content)
    assert read_home(tmp_path) is None, "then the job runs once more, and nothing is lost"


def test_what_was_left_beside_results_that_are_home_goes(slot: Slot) -> None:
    """A bridge that was killed between the two used to leave its machine in the slot."""
    write_home(slot.directory, Home("done", Progress()))
    for name in ("shared", "machine"):
        (slot.directory / name).mkdir()
        (slot.directory / name / "file").touch()
    (slot.directory / ".vmbridge").touch()
    assert for_client._run(slot, None, None, Options()) == Finish(0, "done")
    assert not {"shared", "machine", ".vmbridge"} & set(os.listdir(slot.directory))
    (slot.directory / "shared").mkdir()
    assert for_client._run(slot, None, None, Options()) == Finish(0, "done"), "somebody's folder changes nothing"
    assert (slot.directory / "shared").exists()


@pytest.mark.parametrize("name", ["boinc_lockfile", FINISH])
def test_a_slot_that_is_in_trouble_is_no_error_of_the_job(slot: Slot, name: str) -> None:
    """It used to be a traceback and exit status 1, for which the client gives a job up."""
    (slot.directory / name).mkdir()
    program = "from bridge.app import main; raise SystemExit(main([]))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=slot.directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert (slot.directory / TEMPORARY_EXIT).read_text().startswith("60\n")


def test_what_a_killed_write_left_goes(slot: Slot) -> None:
    left = [slot.directory / f".{name}.tmp" for name in (HOME, FINISH, TEMPORARY_EXIT)]
    for file in left:
        file.touch()
    (slot.directory / "job.xml").unlink()
    assert for_client.run(slot, None, None, []) == 206
    assert not any(file.exists() for file in left)


HOLD = """
import fcntl, sys
lock = open('boinc_lockfile', 'w')
fcntl.lockf(lock, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def test_a_slot_that_stays_locked_is_tried_again_in_ten_minutes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        assert for_client.run(Slot(tmp_path), None, None, [], lock_within_s=0.01) == 0
        holder.communicate()
    delay, reason, notice = (tmp_path / TEMPORARY_EXIT).read_text().splitlines()
    assert (delay, notice) == ("600", "") and "still at work in the slot" in reason
    assert sorted(os.listdir(tmp_path)) == ["boinc_lockfile", TEMPORARY_EXIT]


def test_a_computer_with_too_many_processes_is_no_error_of_the_job(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to end in a traceback, and the client called it a computation error."""

    def no_thread(directory: Path) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(for_client, "read_home", no_thread)
    verdict = for_client._run(slot, None, None, Options())
    assert isinstance(verdict, TemporaryExit) and "too many processes" in verdict.reason


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (InitData(), 2),
        (InitData(process_priority=0), 1),
        (InitData(process_priority=2), 3),
        (InitData(process_priority=5), 5),
        (InitData(process_priority=2, no_priority_change=True), None),
    ],
)
def test_the_volunteers_wish_comes_before_the_job_files_priority(client: InitData, expected: int | None) -> None:
    assert priority_on_host(client, 2) == expected


def test_a_program_of_the_host_is_given_the_priority_that_counts(tmp_path: Path) -> None:
    (tmp_path / "worker").touch()
    task = HostTask("worker", priority=2)
    job = Job(tmp_path / "job.xml", (task,))
    assert OnHost(job, priority=lambda of_task: None)._program(task).priority is None
    assert OnHost(job, priority=lambda of_task: of_task + 3)._program(task).priority == 5
    assert OnHost(job)._program(task).priority == 2
