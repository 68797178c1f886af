"""What is put into the share before a machine starts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.copying import copy_content
from bridge.errors import HostError, ImageError, JobFileError
from bridge.guest.collect import collect
from bridge.guest.stage import stage_in
from bridge.job import MachineTask
from protocol import layout
from protocol.codec import decode
from protocol.files import Door
from protocol.layout import Share
from protocol.messages import Command, HostState, InitData, Task

DYNAMIC = Path("/bin/sh")


@pytest.fixture
def job(tmp_path: Path) -> MachineTask:
    directory = tmp_path / "job"
    directory.mkdir()
    (directory / "worker").write_text("#!/bin/sh\n")
    (directory / "in.txt").write_bytes(os.urandom(100_000))
    return MachineTask(directory / "job.xml", "vm", Path("image"), "worker", inputs=("in.txt",), outputs=("out.txt",))


@pytest.fixture
def agent() -> bytes:
    return b"the agent"


@pytest.mark.behaviour("B1")
def test_two_folders(job: MachineTask, agent: bytes) -> None:
    share = Share.two_folders(job.directory / "shared")
    stage_in(job, share, agent=agent, static_only=True)
    assert set(os.listdir(share.host)) == {layout.COMMAND, layout.TASK, layout.IN, layout.AGENT}
    assert os.listdir(share.guest) == []
    assert (share.host / "in" / "in.txt").samefile(job.directory / "in.txt"), "a link, not a copy"
    assert (share.host / layout.AGENT).read_bytes() == agent
    assert (share.host / layout.AGENT).stat().st_mode & 0o777 == 0o755
    task = decode("task", (share.host / layout.TASK).read_bytes())
    assert task == Task("worker", input=("in.txt",), output=("out.txt",), checkpoint_period=300.0)
    command = decode("command", (share.host / layout.COMMAND).read_bytes())
    assert isinstance(command, Command) and (command.seq, command.state) == (1, HostState.RUN)


def test_what_the_client_says_of_the_job(job: MachineTask) -> None:
    share = Share.two_folders(job.directory / "shared")
    stage_in(job, share, agent=None, static_only=False, init_data=InitData(wu_name="w", p_fpops=4e9))
    assert (share.host / layout.INIT_DATA).read_bytes() == b"wu_name w\np_fpops 4000000000.0\n"


@pytest.mark.behaviour("B17")
def test_one_folder_gets_copies_because_the_guest_can_write_there(job: MachineTask) -> None:
    share = Share.one_folder(job.directory / "shared")
    stage_in(job, share, agent=None, static_only=False)
    staged = share.host / "in" / "in.txt"
    assert not staged.samefile(job.directory / "in.txt")
    assert staged.read_bytes() == (job.directory / "in.txt").read_bytes()
    assert os.access(share.host / "in" / "worker", os.X_OK)
    assert layout.AGENT not in os.listdir(share.host)


@pytest.mark.behaviour("B10")
def test_nothing_from_before_is_left(job: MachineTask, agent: bytes) -> None:
    share = Share.two_folders(job.directory / "shared")
    stage_in(job, share, agent=agent, static_only=False)
    (share.guest / "finished").write_text("code 0\n")
    (share.host / "in" / "old").write_text("old")
    stage_in(job, share, agent=agent, static_only=False)
    assert os.listdir(share.guest) == [] and "old" not in os.listdir(share.host / "in")


def test_no_two_names_of_the_protocol_are_the_same() -> None:
    host = {*layout.HOST_FILES, layout.IN, layout.AGENT, layout.TRICKLE_DOWN, layout.UPLOADED}
    guest = {*layout.GUEST_FILES, layout.OUT, layout.STDERR, layout.TRICKLE_UP, layout.UPLOAD}
    assert not host & guest, "both folders may be one"


def test_a_program_that_is_dynamic(job: MachineTask, agent: bytes) -> None:
    (job.directory / "worker").unlink()
    (job.directory / "worker").symlink_to(DYNAMIC)
    share = Share.two_folders(job.directory / "shared")
    stage_in(job, share, agent=agent, static_only=False)
    with pytest.raises(ImageError, match=r"needs /lib.*Programs for the tiny image are linked with -static\."):
        stage_in(job, share, agent=agent, static_only=True)


def test_packages_are_staged_and_a_program_of_the_guest_is_not(job: MachineTask, agent: bytes) -> None:
    (job.directory / "worker").unlink()
    (job.directory / "p.tar").write_text("p")
    share = Share.two_folders(job.directory / "shared")
    job = replace(job, application="/opt/bin/worker", copies_application=False, packages=("p.tar",))
    stage_in(job, share, agent=agent, static_only=True)
    assert sorted(os.listdir(share.host / "in")) == ["in.txt", "p.tar"]
    task = decode("task", (share.host / layout.TASK).read_bytes())
    assert isinstance(task, Task)
    assert (task.program, task.program_path, task.package) == ("worker", "/opt/bin/worker", ("p.tar",))


def test_a_package_of_a_system_in_an_image_without_one(job: MachineTask, agent: bytes) -> None:
    (job.directory / "p.deb").write_text("p")
    share = Share.two_folders(job.directory / "shared")
    job = replace(job, packages=("p.deb",))
    stage_in(job, share, agent=agent, static_only=False)
    with pytest.raises(ImageError, match=r"<package>p\.deb</package> .*this image does not have\. Build one"):
        stage_in(job, share, agent=agent, static_only=True)


@pytest.mark.parametrize("name", ["worker", "in.txt", "p.tar"])
def test_a_file_that_is_not_there(job: MachineTask, agent: bytes, name: str) -> None:
    job = replace(job, packages=("p.tar",))
    (job.directory / "p.tar").write_text("p")
    (job.directory / name).unlink()
    with pytest.raises(JobFileError, match=f"{name} does not exist. Put it into the job directory"):
        stage_in(job, Share.two_folders(job.directory / "shared"), agent=agent, static_only=False)
    (job.directory / name).mkdir()
    with pytest.raises(JobFileError, match=f"{name} is no file"):
        stage_in(job, Share.two_folders(job.directory / "shared"), agent=agent, static_only=False)
    assert not (job.directory / "shared").exists(), "nothing was begun"


def test_an_input_that_is_a_link_is_staged_as_what_it_names(job: MachineTask, agent: bytes, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("content")
    (job.directory / "in.txt").unlink()
    (job.directory / "in.txt").symlink_to(tmp_path / "real")
    share = Share.two_folders(job.directory / "shared")
    stage_in(job, share, agent=agent, static_only=False)
    assert not (share.host / "in" / "in.txt").is_symlink()
    assert (share.host / "in" / "in.txt").read_text() == "content"


def test_a_folder_that_cannot_be_made(job: MachineTask, agent: bytes) -> None:
    (job.directory / "file").write_text("x")
    with pytest.raises(HostError, match=r"cannot make the shared folder: Not a directory"):
        stage_in(job, Share.two_folders(job.directory / "file" / "shared"), agent=agent, static_only=False)


def test_copies_are_whole_whatever_the_file_systems(tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "a").write_bytes(data)
    for folder in (tmp_path, Path("/dev/shm")):
        target = folder / f"vmbridge-test-{os.getpid()}"
        try:
            with (tmp_path / "a").open("rb") as source, target.open("xb") as file:
                assert copy_content(source.fileno(), file.fileno(), len(data) + 7) == len(data)
            assert target.read_bytes() == data
        finally:
            target.unlink()


def test_a_copy_that_nobody_wants_any_more_is_cut_off(tmp_path: Path) -> None:
    """An abort used to wait for gigabytes that were on their way."""
    (tmp_path / "a").write_bytes(b"x" * 5_000_000)
    wanted = iter([True, True, False])
    with (
        (tmp_path / "a").open("rb") as source,
        open("/dev/null", "wb") as file,
        pytest.raises(OSError, match="not wan"),
    ):
        copy_content(source.fileno(), file.fileno(), 5_000_000, lambda: next(wanted))
    share = Share.two_folders(tmp_path / "shared")
    (share.guest / layout.OUT).mkdir(parents=True)
    for name in ("b", "c"):
        (share.guest / layout.OUT / name).write_text("result")
    places = {name: tmp_path / name for name in ("b", "c")}
    with Door(share.guest) as door, pytest.raises(HostError, match=r"bring the output b .*; .*bring the output c"):
        collect(door, places, tmp_path, lambda: False)
    assert sorted(os.listdir(tmp_path)) == ["a", "shared"]


def test_a_file_that_grows_is_copied_no_further_than_it_was_promised(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5000)
    for target in (tmp_path / "b", Path("/dev/null")):
        with (tmp_path / "a").open("rb") as source, target.open("wb") as file:
            assert copy_content(source.fileno(), file.fileno(), 1234) == 1234
    assert (tmp_path / "b").stat().st_size == 1234


def test_a_result_cannot_take_the_place_of_a_folder(job: MachineTask, agent: bytes) -> None:
    (job.directory / "out.txt").mkdir()
    with pytest.raises(JobFileError, match=r"out\.txt is a folder\. Move it away"):
        stage_in(job, Share.two_folders(job.directory / "shared"), agent=agent, static_only=False)
