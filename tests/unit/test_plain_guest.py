"""Guests without our agent: what their plain files say, when it counts, and what stays for the next start."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.errors import JobFileError
from bridge.guest.plain import AGAIN_S, PlainWay, PlainWords, blanked, forget_end, output_links, stage_plain
from bridge.guest.said import Completed, Postponed
from bridge.guest.steady import EMPTY_S, STEADY_S, Steady
from bridge.guest.triggers import UPLOAD_STEADY_S, TriggerFiles
from bridge.guest.watch import News
from bridge.job import MachineTask, PlainGuest
from bridge.life.patience import BOOT, heartbeat_limits
from protocol.codec import MAX_BYTES
from protocol.files import Door
from protocol.layout import TRICKLE_UP, UPLOAD, Share
from protocol.messages import Finished, FractionDone, GuestState, InitData, Status, TrickleUp, Upload
from protocol.session import Garbled, Said

from ..patience import until

GUEST = PlainGuest(
    fraction_done_filename="progress",
    heartbeat_filename="beat",
    completion_trigger_file="shutdown",
    temporary_exit_trigger_file="later",
    trickle_trigger_files=("news", "more"),
    intermediate_upload_files=("early.dat", "soon.dat"),
)


@dataclass
class Reading:
    """A guest's folder that is read at chosen moments of its machine's time."""

    folder: Path
    now: float = 0.0
    words: PlainWords = field(init=False)

    def __post_init__(self) -> None:
        self.words = PlainWords(GUEST, lambda: self.now)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def read(self, name: str, after_s: float = 0.0, *, over: bool = False) -> News | None:
        self.now += after_s
        with Door(self.folder) as door:
            return self.words.read(door, name, over=over)


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path)


def test_only_the_files_that_the_job_names_are_looked_at() -> None:
    assert set(PlainWords(GUEST, lambda: 0.0).names) == {"progress", "beat", "shutdown", "later"}
    assert PlainWords(PlainGuest(), lambda: 0.0).names == ()


# How far it is


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.25\n", 0.25),
        ("0.1\n0.2\n0.3\n", 0.3),
        ("half\n0.5\nnearly\n", 0.5),
        ("7\n", 1.0),
        ("1e-1 of all\n", 0.1),
        ("x" * 500 + "\n0.75\n", 0.75),
        ("0.125\r\n", 0.125),
    ],
)
def test_the_last_number_in_the_file_is_how_far_it_is(reading: Reading, text: str, value: float) -> None:
    reading.write("progress", text)
    assert reading.read("progress") == Said("progress", FractionDone(value))
    assert reading.read("progress", 10) is None, "it was said once"


@pytest.mark.parametrize("text", ["", "\n", "nan\n", "-1\n", "soon\n", "0" * 200, "\x00\xff\n"])
def test_what_is_no_number_says_nothing(reading: Reading, text: str) -> None:
    reading.write("progress", text)
    assert reading.read("progress") is None and reading.read("progress", 10) is None


def test_a_number_that_is_being_written_is_waited_for(reading: Reading) -> None:
    reading.write("progress", "0.9\n0")
    assert reading.read("progress") == Said("progress", FractionDone(0.9)), "the whole line counts at once"
    reading.write("progress", "0.9\n0.95")
    assert reading.read("progress", STEADY_S) is None, "it changed just now: it used to be a moment at 0"
    assert reading.read("progress", STEADY_S) == Said("progress", FractionDone(0.95))
    assert reading.read("progress") is None, "it does not go back to the line before"


# Signs of life


def test_any_change_of_the_heartbeat_file_is_a_sign_of_life(reading: Reading) -> None:
    assert reading.read("beat") is None
    reading.write("beat", "")
    assert reading.read("beat") == Said("beat", Status(GuestState.RUNNING, 1))
    assert reading.read("beat", 1000) is None

    def touched() -> bool:
        os.utime(reading.folder / "beat", (1, 1))  # by a guest whose clock is wrong
        return reading.read("beat") == Said("beat", Status(GuestState.RUNNING, 2))

    until(touched)  # the kernel's clock for files ticks every few milliseconds
    reading.write("beat", "one more")
    assert reading.read("beat") == Said("beat", Status(GuestState.RUNNING, 3))


def test_the_patience_grows_with_the_interval_and_the_processors() -> None:
    assert heartbeat_limits(10, 1) == BOOT, "it must come up first"
    limits = heartbeat_limits(600, 4)
    assert (limits.cpu_s, limits.clock_s) == (2400, 7200)


# The end


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0\n", Completed(0)),
        ("0", Completed(0)),
        ("195\n0\nthe disk is broken\n", Completed(195, "the disk is broken")),
        ("3\n1\ntell\n  them\n", Completed(3, "tell them", True)),
        ("-1\n", Completed(-1)),
        ("all done\n", Completed(0)),
        ("1\r\n1\r\nwindows\r\n", Completed(1, "windows", True)),
        ("1\n0\n\x1b[2Jgone\x00\n", Completed(1, "\ufffd[2Jgone\ufffd")),
    ],
)
def test_the_completion_file(reading: Reading, text: str, said: Completed) -> None:
    reading.write("shutdown", text)
    assert reading.read("shutdown") is None
    assert reading.read("shutdown", STEADY_S) == Said("shutdown", said)
    assert reading.read("shutdown", 10) is None


def test_a_completion_file_that_is_being_written_is_no_success(reading: Reading) -> None:
    """vboxwrapper read an empty or half-written one as exit code 0."""
    reading.write("shutdown", "")
    assert reading.read("shutdown") is None
    assert reading.read("shutdown", STEADY_S * 2) is None
    reading.write("shutdown", "1")
    assert reading.read("shutdown", STEADY_S * 2) is None
    reading.write("shutdown", "19")
    assert reading.read("shutdown", STEADY_S * 2) is None
    reading.write("shutdown", "195\n1\nfailed\n")
    assert reading.read("shutdown", STEADY_S * 2) is None
    assert reading.read("shutdown", STEADY_S) == Said("shutdown", Completed(195, "failed", True))


def test_an_empty_completion_file_counts_when_nothing_comes(reading: Reading) -> None:
    reading.write("shutdown", "")
    reading.read("shutdown")
    assert reading.read("shutdown", EMPTY_S - 1) is None
    assert reading.read("shutdown", 1) == Said("shutdown", Completed(0))


def test_a_guest_that_has_switched_itself_off_writes_no_more(reading: Reading) -> None:
    reading.write("shutdown", "")
    assert reading.read("shutdown") is None
    assert reading.read("shutdown", over=True) == Said("shutdown", Completed(0))


def test_a_trigger_file_that_is_too_long_is_told_once(reading: Reading) -> None:
    reading.write("shutdown", "0" * (MAX_BYTES + 1))
    assert isinstance(reading.read("shutdown"), Garbled) and reading.read("shutdown", 10) is None


def test_a_trigger_file_that_is_none_is_told(reading: Reading) -> None:
    (reading.folder / "shutdown").symlink_to("/etc/passwd")
    assert isinstance(reading.read("shutdown"), Garbled)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("600\n1\nplug in the power\n", Postponed(600, "plug in the power", True)),
        ("60\n0\nno network\n", Postponed(60, "no network")),
        ("60\n", Postponed(60, "the guest asks to be started again later")),
        ("soon\n", Postponed(AGAIN_S, "the guest asks to be started again later")),
        ("-5\n", Postponed(0, "the guest asks to be started again later")),
    ],
)
def test_a_temporary_exit_always_has_a_reason(reading: Reading, text: str, said: Postponed) -> None:
    """vboxwrapper passed none on unless it was a notice, and the client ignores a temporary exit without one."""
    reading.write("later", text)
    reading.read("later")
    assert reading.read("later", STEADY_S) == said


def test_a_job_that_is_to_run_so_long_is_done_then() -> None:
    way = PlainWay(PlainGuest(job_duration=100.0))
    up = Status(GuestState.RUNNING, 0)
    assert list(way.by_time(25.0)) == [up, FractionDone(0.25)]
    *_, done, end = way.by_time(100.5)
    assert done == FractionDone(1.0) and isinstance(end, Finished) and end.code == 0
    assert list(PlainWay(PlainGuest()).by_time(1e9)) == [up]
    both = PlainWay(PlainGuest(job_duration=100.0, fraction_done_filename="progress"))
    assert list(both.by_time(25.0)) == [up], "the guest says itself how far it is"


def test_steady_is_what_has_not_changed_for_a_while() -> None:
    steady = Steady()
    assert not steady.is_whole(None, 0.0, 0.0) and not steady.is_whole("a", 0.0, 1.0)
    assert not steady.is_whole("b", 1.0, 1.0) and steady.is_whole("b", 2.0, 1.0) and steady.is_whole("b", 3.0, 1.0)
    assert steady.is_news("b", 3.0, 1.0) and not steady.is_news("b", 4.0, 1.0)
    assert not steady.is_news(None, 5.0, 0.0) and steady.is_news("b", 6.0, 0.0), "it went, and came again"


# What lies in the share


@pytest.fixture
def job(tmp_path: Path) -> MachineTask:
    directory = tmp_path / "slot"
    directory.mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "real.dat").write_text("input")
    (directory / "in.dat").symlink_to("../project/real.dat")
    (directory / "early.dat").symlink_to("../project/result_1")
    (directory / "out.dat").symlink_to("../project/result_2")
    (directory / "plain.txt").write_text("no link")
    return MachineTask(
        directory / "vbox_job.xml", "vm", Path("image"), "", arguments=("--nthreads", "2"), resolve=Path.resolve
    )


@pytest.fixture
def share(job: MachineTask) -> Share:
    return Share.one_folder(job.directory / "shared")


WANTS = PlainGuest(
    fraction_done_filename="progress",
    completion_trigger_file="shutdown",
    temporary_exit_trigger_file="later",
    copy_to_shared=("in.dat", "init_data.xml"),
    copy_cmdline_to_shared=True,
)


def test_what_the_job_file_wants_is_in_the_share(job: MachineTask, share: Share) -> None:
    (job.directory / "init_data.xml").write_text("<authenticator>secret</authenticator>")
    stage_plain(job, WANTS, share, job.directory, InitData(wu_name="w_1", ncpus=2.0))
    copied = share.guest / "in.dat"
    assert copied.read_text() == "input" and not copied.samefile(job.path("in.dat")), "the guest may write to it"
    assert (share.guest / "cmdline").read_text() == "--nthreads 2"
    told = (share.guest / "init_data.xml").read_text()
    assert "<wu_name>w_1</wu_name>" in told and "<ncpus>2.000000</ncpus>" in told
    assert "secret" not in told and "<authenticator></authenticator>" in told
    assert sorted(os.listdir(share.guest)) == ["cmdline", "in.dat", "init_data.xml"]


def test_without_a_client_there_is_nothing_to_blank() -> None:
    assert blanked(InitData()).startswith(b"<app_init_data>\n<userid></userid>\n")


def test_what_a_guest_has_changed_is_not_copied_again(job: MachineTask, share: Share) -> None:
    stage_plain(job, WANTS, share, job.directory, None)
    (share.guest / "in.dat").write_text("its own state")
    stage_plain(job, WANTS, share, job.directory, None)
    assert (share.guest / "in.dat").read_text() == "its own state"


def test_a_missing_file_is_told(job: MachineTask, share: Share) -> None:
    with pytest.raises(JobFileError, match=r"copy_to_shared.*other.dat does not exist"):
        stage_plain(job, PlainGuest(copy_to_shared=("other.dat",)), share, job.directory, None)


@pytest.mark.parametrize("done", [False, True])
def test_an_earlier_start_says_nothing_but_that_all_is_done_and_durable(
    job: MachineTask, share: Share, tmp_path: Path, done: bool
) -> None:
    """A power cut may leave the completion file, and take the results that were written before it."""
    stage_plain(job, WANTS, share, tmp_path, None)
    for name in ("progress", "later", "state.of.the.guest"):
        (share.guest / name).write_text("0.5\n")
    (share.guest / "shutdown").write_text("0\n")
    if done:
        with Door(share.guest) as door:
            PlainWay(WANTS).left(door, tmp_path, {})
    stage_plain(job, WANTS, share, tmp_path, None)
    assert not (share.guest / "progress").exists() and not (share.guest / "later").exists()
    assert (share.guest / "state.of.the.guest").exists()
    assert (share.guest / "shutdown").exists() == done
    forget_end(WANTS, share)
    forget_end(WANTS, share)
    assert not (share.guest / "shutdown").exists()


def test_a_guest_cannot_hold_up_the_next_start(job: MachineTask, share: Share) -> None:
    """A folder under one of these names used to be trouble of the host, for ever."""
    stage_plain(job, WANTS, share, job.directory, None)
    (share.guest / "in.dat").unlink()
    for name in ("progress", "later", "shutdown", "cmdline", ".cmdline.tmp", ".in.dat.vmbridge", ".init_data.xml.tmp"):
        if (share.guest / name).exists():
            (share.guest / name).unlink()
        (share.guest / name / "deep").mkdir(parents=True)
    (share.guest / "init_data.xml").unlink()
    stage_plain(job, WANTS, share, job.directory, None)
    assert sorted(os.listdir(share.guest)) == ["cmdline", "in.dat", "init_data.xml"]


def test_the_outputs_are_the_links_to_files_that_are_not_there_yet(job: MachineTask) -> None:
    assert output_links(job, GUEST) == ("early.dat", "soon.dat", "out.dat")


def test_only_the_outputs_that_are_there_are_brought(job: MachineTask, share: Share) -> None:
    share.guest.mkdir()
    (share.guest / "out.dat").write_text("result")
    places = {name: job.path(name) for name in output_links(job, GUEST)}
    with Door(share.guest) as door:
        assert PlainWay(GUEST).left(door, job.directory, places) == {
            "out.dat": job.directory.parent / "project" / "result_2"
        }


# Trickles and uploads


@dataclass
class Sending:
    """A guest's triggers, read at chosen moments."""

    root: Path
    now: float = 0.0
    asked: tuple[str, ...] = ()
    files: TriggerFiles = field(init=False)

    def __post_init__(self) -> None:
        self.share = Share.one_folder(self.root / "shared")
        self.machine = self.root / "machine"
        for folder in (self.share.guest, self.machine):
            folder.mkdir(exist_ok=True)
        self.files = TriggerFiles(self.share, GUEST, self.machine, lambda: self.now, list(self.asked))

    def write(self, name: str, text: str) -> None:
        (self.share.guest / name).write_text(text)

    def read(self, kind: str, number: int, after_s: float = 0.0) -> object:
        self.now += after_s
        return self.files.read(kind, number, self.now)


@pytest.fixture
def sending(tmp_path: Path) -> Sending:
    return Sending(tmp_path)


def test_a_trickle_is_taken_out_of_the_share_when_it_is_whole(sending: Sending) -> None:
    assert not sending.files.is_there(TRICKLE_UP, 1)
    sending.write("news", "<a>1</a>\n")
    assert sending.files.is_there(TRICKLE_UP, 1)
    assert sending.read(TRICKLE_UP, 1) is None
    sending.write("news", "<a>1</a>\n<b>2</b>")
    assert sending.read(TRICKLE_UP, 1, STEADY_S) is None, "half of it used to be sent"
    first = sending.read(TRICKLE_UP, 1, STEADY_S)
    assert first == TrickleUp("news", ("<a>1</a>", "<b>2</b>"))
    assert os.listdir(sending.share.guest) == [], "the guest may write the next one"
    sending.write("news", "next\n")
    sending.write("more", "other\n")
    assert sending.read(TRICKLE_UP, 1) == first and sending.read(TRICKLE_UP, 2) is None
    assert sending.read(TRICKLE_UP, 2, STEADY_S) == TrickleUp("news", ("next", ""))
    assert sending.read(TRICKLE_UP, 3) == TrickleUp("more", ("other", "")), "it is as old"
    sending.files.taken(2, 0)
    assert os.listdir(sending.machine) == ["trickle.3.more"]


def test_a_trickle_that_was_taken_out_is_found_again_after_a_kill(sending: Sending) -> None:
    sending.write("news", "once\n")
    sending.read(TRICKLE_UP, 1)
    sending.read(TRICKLE_UP, 1, STEADY_S)
    again = Sending(sending.root)
    assert again.files.is_there(TRICKLE_UP, 1)
    assert again.read(TRICKLE_UP, 1) == TrickleUp("news", ("once", ""))
    again.files.taken(1, 0)
    assert not Sending(sending.root).files.is_there(TRICKLE_UP, 1), "and is not sent twice"


def test_a_trickle_has_no_characters_that_a_terminal_obeys(sending: Sending) -> None:
    sending.write("news", "a\r\n\tb\x1b[2J\x00c")
    sending.read(TRICKLE_UP, 1)
    assert sending.read(TRICKLE_UP, 1, STEADY_S) == TrickleUp("news", ("a", "\tb\ufffd[2J\ufffdc"))


def test_the_same_trickle_may_be_sent_again_at_once(sending: Sending) -> None:
    for number in (1, 2):
        sending.write("news", "still here\n")
        assert sending.read(TRICKLE_UP, number) is None
        assert sending.read(TRICKLE_UP, number, STEADY_S) == TrickleUp("news", ("still here", ""))


def test_a_trickle_that_cannot_be_taken_out_now_is_later(sending: Sending) -> None:
    sending.write("news", "once\n")
    sending.read(TRICKLE_UP, 1)
    (sending.machine / "trickle.1.news").mkdir()
    with pytest.raises(OSError, match=r"trickle\.1\.news"):
        sending.read(TRICKLE_UP, 1, STEADY_S)
    (sending.machine / "trickle.1.news").rmdir()
    assert sending.read(TRICKLE_UP, 1) == TrickleUp("news", ("once", ""))


def test_a_trickle_that_was_taken_out_as_the_disk_was_full_is_not_lost(sending: Sending) -> None:
    """The next one of its name used to be moved over it."""
    sending.write("news", "once\n")
    sending.read(TRICKLE_UP, 1)
    (sending.machine / ".trickle.1.news.tmp").mkdir()  # nothing can be written
    with pytest.raises(OSError, match=r"trickle\.1\.news"):
        sending.read(TRICKLE_UP, 1, STEADY_S)
    sending.write("news", "twice\n")
    assert sending.read(TRICKLE_UP, 1, STEADY_S) == TrickleUp("news", ("once", ""))


def test_a_trickle_that_is_no_file_is_left_alone(sending: Sending, caplog: pytest.LogCaptureFixture) -> None:
    (sending.share.guest / "news").symlink_to("/etc/passwd")
    sending.write("more", "x" * (MAX_BYTES + 1))
    for _ in range(3):
        assert sending.read(TRICKLE_UP, 1, STEADY_S) is None
    assert caplog.text.count("is not taken") == 2


def test_each_upload_is_asked_for_once_when_it_has_not_changed_for_a_while(sending: Sending) -> None:
    sending.write("soon.dat", "half")
    assert sending.files.is_there(UPLOAD, 1) and sending.read(UPLOAD, 1) is None
    sending.write("soon.dat", "half and half")
    assert sending.read(UPLOAD, 1, UPLOAD_STEADY_S) is None
    assert sending.read(UPLOAD, 1, UPLOAD_STEADY_S) == Upload("soon.dat")
    assert sending.read(UPLOAD, 1) == Upload("soon.dat"), "as often as the forwarding needs it"
    assert not sending.files.is_there(UPLOAD, 2) and sending.read(UPLOAD, 2, 100) is None
    again = Sending(sending.root, asked=("soon.dat",))
    assert not again.files.is_there(UPLOAD, 2) and again.read(UPLOAD, 2, 100) is None


def test_a_guest_that_cannot_hear_is_not_told(sending: Sending, caplog: pytest.LogCaptureFixture) -> None:
    sending.files.trickle_down(1, "hello")
    sending.files.trickle_down(2, "hello")
    assert caplog.text.count("no way to hear") == 1 and os.listdir(sending.share.guest) == []
