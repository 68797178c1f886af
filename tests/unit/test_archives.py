"""A job's archives: what is unpacked before, what is packed after, and what is refused."""

from __future__ import annotations

import os
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.archives import INITIAL_FILES, pack, unpack
from bridge.errors import GuestError, HostError, JobFileError
from bridge.job import HostTask, Job, ZipOutput


def job(folder: Path, *inputs: str, output: ZipOutput | None = None) -> Job:
    return Job(folder / "job.xml", (HostTask("worker"),), unzip_input=inputs, zip_output=output)


def at_once() -> None:
    """Work on an archive without a pause."""


def archive(path: Path, **members: str) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name, text in members.items():
            opened.writestr(name, text)


def test_a_program_keeps_its_right_to_be_run(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as opened:
        info = zipfile.ZipInfo("bin/worker")
        info.external_attr = (stat.S_IFREG | 0o755) << 16
        opened.writestr(info, "#!/bin/sh\n")
        opened.writestr("data", "1")
    unpack(job(tmp_path, "app.zip"), at_once)
    assert os.access(tmp_path / "bin/worker", os.X_OK) and (tmp_path / "data").read_text() == "1"
    unpack(job(tmp_path, "app.zip"), at_once)
    assert (tmp_path / "app.zip").exists(), "a start that is cut off unpacks it again"


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("../up", "outside of the job's directory"),
        ("/etc/passwd", "outside of the job's directory"),
        ("a/../../up", "outside of the job's directory"),
        ("job.xml", "uses itself"),
        ("./job.xml", "uses itself"),  # used to be written
        ("init_data.xml", "uses itself"),
        ("boinc_finish_called", "uses itself"),
        ("machine/disk", "uses itself"),
        (".vmbridge.home", "uses itself"),
    ],
)
def test_members_that_have_no_business_there(tmp_path: Path, member: str, said: str) -> None:
    archive(tmp_path / "in.zip", **{member: "x"})
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(JobFileError, match=said):
        unpack(job(tmp_path, "in.zip"), at_once)
    assert sorted(os.listdir(tmp_path)) == before and not (tmp_path.parent / "up").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + b"\xff" * 100])
def test_an_archive_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.zip").write_bytes(content)
    with pytest.raises(JobFileError, match=r"<unzip_input>: in\.zip cannot be unpacked"):
        unpack(job(tmp_path, "in.zip"), at_once)


def test_an_archive_whose_content_is_broken(tmp_path: Path) -> None:
    archive(tmp_path / "in.zip", a="the same text again and again " * 100)
    data = bytearray((tmp_path / "in.zip").read_bytes())
    data[60:70] = b"\0" * 10
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises(JobFileError, match="cannot be unpacked"):
        unpack(job(tmp_path, "in.zip"), at_once)


def test_an_archive_that_is_not_part_of_the_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive(tmp_path / "in.zip", a="1")
    unpack(job(tmp_path, "not_here.zip", "in.zip"), at_once)
    assert "there is no not_here.zip to be unpacked" in caplog.text, "used to end the job, other than with the wrapper"
    assert (tmp_path / "a").exists()


def test_an_archive_that_is_missing_behind_its_link(tmp_path: Path) -> None:
    (tmp_path / "in.zip").touch()
    with pytest.raises(JobFileError, match=r"in\.zip stands for .*gone, which does not exist"):
        unpack(replace(job(tmp_path, "in.zip"), resolve=lambda path: tmp_path / "gone"), at_once)


def test_modes_and_links_are_those_of_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as opened:
        for name, mode, text in (
            ("lib.so.1", stat.S_IFREG | 0o444, "one"),
            ("lib.so", stat.S_IFLNK | 0o777, "lib.so.1"),
            ("bin/lib.so", stat.S_IFLNK | 0o777, "../lib.so"),
        ):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            opened.writestr(info, text)
    for _ in range(2):
        unpack(job(tmp_path, "in.zip"), at_once)
        assert (tmp_path / "lib.so").is_symlink() and (tmp_path / "bin/lib.so").read_text() == "one", (
            "links used to become files that hold a name"
        )
        assert (tmp_path / "lib.so.1").stat().st_mode & 0o777 == 0o444, "used to be made writable"


@pytest.mark.parametrize("to", ["/etc", "..", "../../x", "d/../.."])
def test_links_that_lead_out(tmp_path: Path, to: str) -> None:
    folder = tmp_path / "slot"
    folder.mkdir()
    with zipfile.ZipFile(folder / "in.zip", "w") as opened:
        info = zipfile.ZipInfo("l")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, to)
        opened.writestr("l/passwd", "x")
    with pytest.raises(JobFileError, match="'l', a link that leads out of the job's directory"):
        unpack(job(folder, "in.zip"), at_once)
    assert os.listdir(folder) == ["in.zip"] and os.listdir(tmp_path) == ["slot"]


def test_a_link_is_no_way_to_the_clients_files(tmp_path: Path) -> None:
    """It used to be one: only the name as it is written was looked at."""
    (tmp_path / "job.xml").write_text("the job")
    for member in ("l/job.xml", "l/l/boinc_finish_called", "l/machine/disk"):
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as opened:
            info = zipfile.ZipInfo("l")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            opened.writestr(info, ".")
            opened.writestr(member, "x")
        with pytest.raises(JobFileError, match="uses itself"):
            unpack(job(tmp_path, "in.zip"), at_once)
    assert sorted(os.listdir(tmp_path)) == ["in.zip", "job.xml", "l"]
    assert (tmp_path / "job.xml").read_text() == "the job"


@pytest.mark.parametrize("members", [["a", "a/b"], ["a/b", "a"], ["a", "a/"], ["."], ["n" * 300]])
def test_members_that_are_in_each_others_way(tmp_path: Path, members: list[str]) -> None:
    """They used to count as trouble of the host, which passes: the job was started a hundred times."""
    archive(tmp_path / "in.zip", **dict.fromkeys(members, "x"))
    with pytest.raises(JobFileError, match=r"in\.zip cannot be unpacked"):
        unpack(job(tmp_path, "in.zip"), at_once)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_broken_member_is_the_projects_fault_however_it_is_packed(tmp_path: Path, method: int) -> None:
    """With LZMA there used to be a traceback, with bzip2 a hundred starts."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w", method) as opened:
        opened.writestr("a", bytes(range(256)) * 20)
    data = bytearray((tmp_path / "in.zip").read_bytes())
    data[45:75] = b"\xa5" * 30
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises(JobFileError, match=r"in\.zip cannot be unpacked"):
        unpack(job(tmp_path, "in.zip"), at_once)


def test_nothing_to_be_packed_is_an_error(tmp_path: Path) -> None:
    wanted = job(tmp_path, output=ZipOutput("out.zip", (r"\.dat$", "^log")))
    unpack(wanted, at_once)
    with pytest.raises(GuestError, match=r"nothing can be packed into out\.zip: .* '\\\\\.dat\$' or '\^log'"):
        pack(wanted, at_once)
    assert not (tmp_path / "out.zip").exists(), "used to be an empty archive, and a success"


def test_results_are_what_is_new_and_matches(tmp_path: Path) -> None:
    wanted = job(tmp_path, output=ZipOutput("out.zip", (r"\.dat$", "^log")))
    (tmp_path / "old.dat").write_text("an input")
    unpack(wanted, at_once)
    assert (tmp_path / INITIAL_FILES).read_text() == "old.dat\n"
    for name in ("a.dat", "b.dat", "log.1", "data", "boinc_x.dat", "boinc_ufr_y.dat"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.dat").mkdir()
    (tmp_path / "link.dat").symlink_to("/etc/passwd")
    os.utime(tmp_path / "a.dat", (0, 0))
    pack(wanted, at_once)
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        assert opened.namelist() == ["a.dat", "b.dat", "boinc_x.dat", "log.1"]
        assert opened.read("a.dat") == b"a.dat"
        assert {member.compress_type for member in opened.infolist()} == {zipfile.ZIP_DEFLATED}


def test_results_are_packed_once(tmp_path: Path) -> None:
    wanted = job(tmp_path, output=ZipOutput("out.zip", (".*",)))
    unpack(wanted, at_once)
    (tmp_path / "a").write_text("first")
    pack(wanted, at_once)
    (tmp_path / "b").write_text("later")
    pack(wanted, at_once)
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        assert opened.namelist() == ["a"], "the client may be uploading it"


def test_results_of_a_job_that_begins_anew_are_packed(tmp_path: Path) -> None:
    """What was there from its first beginning used to count as there before: the results were left out."""
    wanted = job(tmp_path, output=ZipOutput("out.zip", (r"\.dat$",)))
    unpack(wanted, at_once)
    (tmp_path / "a.dat").write_text("a result")
    unpack(wanted, at_once)
    pack(wanted, at_once)
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        assert opened.namelist() == ["a.dat"]


def test_results_of_an_older_run_are_not_this_ones(tmp_path: Path) -> None:
    """They used to stay: a second 'vmbridge run' was a success with the results of the first."""
    wanted = job(tmp_path, output=ZipOutput("out.zip", (r"\.dat$",)))
    for text in ("first", "second"):
        unpack(wanted, at_once)
        (tmp_path / "a.dat").write_text(text)
        pack(wanted, at_once)
        with zipfile.ZipFile(tmp_path / "out.zip") as opened:
            assert opened.read("a.dat") == text.encode()


def test_half_an_archive_is_no_result(tmp_path: Path) -> None:
    """One that a killed start has left used to be packed into itself."""
    wanted = job(tmp_path, output=ZipOutput("out.zip", ("out",)))
    unpack(wanted, at_once)
    (tmp_path / "out.dat").write_text("a result")
    (tmp_path / ".out.zip.tmp").write_text("half")
    pack(wanted, at_once)
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        assert opened.namelist() == ["out.dat"]


def test_a_pack_that_is_cut_off_leaves_no_archive(tmp_path: Path) -> None:
    wanted = job(tmp_path, output=ZipOutput("nowhere/out.zip", (".*",)))
    (tmp_path / "a").touch()
    with pytest.raises(HostError, match=r"cannot pack nowhere/out\.zip"):
        pack(wanted, at_once)


class Enough(Exception):
    """What ends the work on an archive."""


def for_pieces(count: int) -> Callable[[], None]:
    """Return what ends work before a piece of it."""
    left = iter(range(count))

    def pace() -> None:
        if next(left, None) is None:
            raise Enough

    return pace


def test_a_bomb_is_heard_ticking(tmp_path: Path) -> None:
    """It used to be unpacked to its end, or until the client killed the bridge."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as opened, opened.open("zeros", "w") as zeros:
        for _ in range(64):
            zeros.write(bytes(1 << 20))
    with pytest.raises(Enough):
        unpack(job(tmp_path, "in.zip"), for_pieces(12))
    assert 0 < (tmp_path / "zeros").stat().st_size < 4 << 20
    unpack(job(tmp_path, "in.zip"), at_once)
    assert (tmp_path / "zeros").stat().st_size == 64 << 20


@pytest.mark.parametrize("ending", ["", "/"])
def test_many_members_with_nothing_in_them_are_no_hurry(tmp_path: Path, ending: str) -> None:
    """No order was obeyed before the last of them was made."""
    archive(tmp_path / "in.zip", **{f"{number}{ending}": "" for number in range(20)})
    with pytest.raises(Enough):
        unpack(job(tmp_path, "in.zip"), for_pieces(3))
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "in.zip"]


def test_a_link_to_nothing_is_the_projects_fault(tmp_path: Path) -> None:
    """It used to be the host's, which passes: the job was started a hundred times."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as opened:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, "")
    with pytest.raises(JobFileError, match=r"in\.zip cannot be unpacked: 'link' is a link to nothing"):
        unpack(job(tmp_path, "in.zip"), at_once)


def test_a_file_without_a_name_is_the_projects_fault(tmp_path: Path) -> None:
    """It used to be a bug of ours: an IndexError."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as opened:
        opened.writestr("x", "content")
        opened.infolist()[0].filename = ""
    with pytest.raises(JobFileError, match=r"in\.zip cannot be unpacked: it holds a file without a name"):
        unpack(job(tmp_path, "in.zip"), at_once)


def test_a_bomb_that_says_it_is_a_link(tmp_path: Path) -> None:
    """It used to be read into memory."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, b"x" * (64 << 20), zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    with pytest.raises(JobFileError, match=r"in\.zip cannot be unpacked: 'link': File name too long"):
        unpack(job(tmp_path, "in.zip"), at_once)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_results_that_are_packed_no_further_are_packed_the_next_time(tmp_path: Path) -> None:
    wanted = job(tmp_path, output=ZipOutput("all.zip", ("result",)))
    unpack(wanted, at_once)
    (tmp_path / "result").write_bytes(os.urandom(1 << 20))
    before = set(os.listdir(tmp_path))
    with pytest.raises(Enough):
        pack(wanted, for_pieces(3))
    assert set(os.listdir(tmp_path)) == before
    pack(wanted, at_once)
    with zipfile.ZipFile(tmp_path / "all.zip") as opened:
        assert opened.testzip() is None and opened.read("result") == (tmp_path / "result").read_bytes()
