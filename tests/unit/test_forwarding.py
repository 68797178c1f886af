"""From the guest's numbered files to the project and back: each once, whatever is killed."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.client.trickles import Trickles
from bridge.guest.numbered import COMPLAINTS, Numbered
from bridge.life import forwarding as module
from bridge.life.accounting import Progress
from bridge.life.earnings import Earnings
from bridge.life.forwarding import RECORD, Forwarding, Nobody, Taken, TakenUpload, read_record, write_record
from protocol.files import write_atomic
from protocol.layout import OUT, TRICKLE_UP, Share
from protocol.messages import TrickleUp


@dataclass
class FakeProject:
    """A project that remembers."""

    staged: list[tuple[int, str]] = field(default_factory=list)
    released: tuple[int, int] = (0, 0)
    begun: list[tuple[int, int] | None] = field(default_factory=list)
    messages: dict[int, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    wants: int = 1000
    full: bool = False

    def begin(self, staged: tuple[int, int] | None) -> tuple[int, int]:
        self.begun.append(staged)
        return staged or (7, 3)

    def room(self) -> bool:
        return len(self.staged) < self.wants

    def stage_trickle(self, number: int, variety: str, text: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.staged.append((number, f"{variety}: {text}"))

    def stage_upload(self, number: int, name: str) -> None:
        self.staged.append((number, name))

    def release(self, trickle: int, upload: int) -> None:
        self.released = trickle, upload

    def has_news(self) -> bool:
        if self.full:
            raise OSError(28, "No space left on device")
        return bool(self.messages)

    def trickles_down(self, after: int) -> Mapping[int, str]:
        return {number: text for number, text in self.messages.items() if number > after}

    def upload_status(self, name: str) -> int | None:
        return self.statuses.get(name)


class Rig:
    """A share, a machine's folder, and a project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.share = Share.two_folders(root / "shared")
        self.machine = root / "machine"
        self.machine.mkdir()
        self.project = FakeProject()
        self.now = 0.0
        self.new_share()

    def new_share(self) -> None:
        shutil.rmtree(self.root / "shared", ignore_errors=True)
        self.share.host.mkdir(parents=True)
        (self.share.guest / OUT).mkdir(parents=True)

    def say(self, name: str, content: str) -> None:
        write_atomic(self.share.guest / name, content.encode(), durable=False)

    def trickle(self, *numbers: int) -> None:
        for number in numbers:
            self.say(f"trickle_up.{number}", f"variety v\ntext {number}\n")

    def told(self, name: str) -> str | None:
        path = self.share.host / name
        return path.read_text() if path.exists() else None

    def forward(
        self, body: Callable[[Forwarding], Coroutine[Any, Any, None]] | None = None, *, anew: bool = False
    ) -> Forwarding:
        """Live one life of it: begin, look once or do `body`, end."""

        async def go() -> Forwarding:
            places = {name: self.root / f"place-of-{name}" for name in ("a.txt", "b.txt", "n" * 201)}
            forwarding = Forwarding(Numbered(self.share), self.machine, places, self.project, lambda: self.now)
            try:
                await forwarding.begin(anew=anew)
                await (body(forwarding) if body else look(forwarding))
            finally:
                await forwarding.end()
            return forwarding

        return asyncio.run(go())


async def look(forwarding: Forwarding) -> None:
    forwarding.look()
    await forwarding._settled()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.mark.behaviour("B15")
def test_trickles_go_in_order_and_the_guest_may_forget_them(rig: Rig) -> None:
    rig.trickle(1, 2, 3, 5)
    rig.say("trickle_up.6", "variety w\ntext a\ntext\ntext b\ntext\n")
    rig.forward()
    assert rig.project.staged == [(8, "v: 1"), (9, "v: 2"), (10, "v: 3")], "4 is still to come"
    assert rig.project.released == (10, 3)
    assert rig.told("taken") == "trickle_up 3\nupload 0\n"
    rig.trickle(4)
    rig.forward()
    assert rig.project.staged[3:] == [(11, "v: 4"), (12, "v: 5"), (13, "w: a\n\nb\n")]
    assert rig.told("taken") == "trickle_up 6\nupload 0\n"


@pytest.mark.behaviour("B15")
def test_what_a_restored_guest_sends_again_is_skipped_and_it_hears_so_at_once(rig: Rig) -> None:
    rig.trickle(1, 2, 3)
    rig.forward()
    rig.new_share()
    rig.trickle(2, 3, 4)

    async def body(forwarding: Forwarding) -> None:
        assert rig.told("taken") == "trickle_up 3\nupload 0\n"
        await look(forwarding)

    rig.forward(body)
    assert [text for _, text in rig.project.staged] == ["v: 1", "v: 2", "v: 3", "v: 4"]
    assert rig.project.begun == [None, (10, 3)]


@pytest.mark.behaviour("B15")
def test_a_job_that_begins_anew_sends_its_trickles_again(rig: Rig) -> None:
    rig.trickle(1, 2)
    rig.forward()
    rig.new_share()
    rig.trickle(1)
    rig.forward(anew=True)
    assert [number for number, _ in rig.project.staged] == [8, 9, 10]
    assert rig.told("taken") == "trickle_up 1\nupload 0\n"


def test_no_more_is_taken_than_the_project_wants(rig: Rig) -> None:
    rig.project.wants = 2
    rig.trickle(1, 2, 3)
    rig.forward()
    assert len(rig.project.staged) == 2 and rig.told("taken") == "trickle_up 2\nupload 0\n"


def test_at_the_end_all_is_taken_also_what_is_unfinished(rig: Rig) -> None:
    rig.project.wants = 0
    rig.trickle(*range(1, 41))
    rig.say("trickle_up.41", "variety unfinished")
    rig.say("upload.1", "name a.txt")
    rig.say("out/a.txt", "early")
    rig.forward(lambda forwarding: forwarding.last())
    assert len(rig.project.staged) == 42 and rig.project.released == (48, 4)


def test_trouble_of_the_host_delays_and_loses_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.trickle(1)
    rig.project.full = True

    async def body(forwarding: Forwarding) -> None:
        for _ in range(3):
            await look(forwarding)
        assert rig.told("taken") == "trickle_up 0\nupload 0\n" and rig.project.released == (7, 3)
        rig.project.full = False
        await look(forwarding)

    rig.forward(body)
    assert rig.project.staged == [(8, "v: 1")], "under the same number"
    assert caplog.text.count("trickles and uploads must wait") == 1


def test_what_fails_holds_nothing_else_up_and_does_not_end_the_job(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.project.messages = {1: None}  # type: ignore[dict-item]
    rig.trickle(1)
    rig.forward()
    assert "trickles and uploads must wait" in caplog.text
    assert rig.project.staged == [(8, "v: 1")] and rig.project.released == (8, 3)


def test_a_record_that_cannot_be_written_delays_and_doubles_nothing(rig: Rig) -> None:
    rig.trickle(1)

    async def body(forwarding: Forwarding) -> None:
        (rig.machine / f".{RECORD}.tmp").mkdir()
        await look(forwarding)
        assert rig.project.released == (7, 3)
        (rig.machine / f".{RECORD}.tmp").rmdir()
        await look(forwarding)

    rig.forward(body)
    assert rig.project.staged == [(8, "v: 1"), (8, "v: 1")], "the second in the first one's place"
    assert rig.project.released == (8, 3)


def test_what_is_found_while_looking_is_looked_for_again(rig: Rig) -> None:
    async def body(forwarding: Forwarding) -> None:
        forwarding.look()
        rig.trickle(1)
        forwarding.look()
        assert forwarding._round is not None
        await forwarding._round
        assert len(rig.project.staged) == 1
        await forwarding.end()
        forwarding.look()
        await forwarding.last()

    rig.forward(body)


def test_a_job_that_sends_nothing_costs_no_thread(rig: Rig) -> None:
    """It used to be one each second, and half of all that a bridge at rest used."""

    async def body(forwarding: Forwarding) -> None:
        async def rounds() -> bool:
            before = forwarding._round
            forwarding.look()
            if forwarding._round is not None:
                await forwarding._round
            return forwarding._round is not before

        assert await rounds(), "what lies there already is looked for"
        assert not await rounds()
        rig.trickle(1)
        assert await rounds() and rig.project.staged
        assert not await rounds()
        rig.project.messages[1] = "hello"
        assert await rounds()
        rig.project.messages.clear()
        rig.project.full = True
        assert await rounds(), "what cannot be known is looked at"
        rig.project.full = False

    rig.forward(body)


@pytest.mark.behaviour("B5", "B15")
def test_a_broken_trickle_is_told_once_and_waits_to_be_mended(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.say("trickle_up.1", "text without a variety\n")
    rig.trickle(2)

    async def body(forwarding: Forwarding) -> None:
        for _ in range(3):
            await look(forwarding)
        assert rig.project.staged == []
        rig.trickle(1)
        await look(forwarding)

    rig.forward(body)
    assert len(rig.project.staged) == 2
    assert caplog.text.count("the guest's file trickle_up.1 is not taken") == 1


def test_a_hostile_guest_does_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(tmp_path)
    numbered = Numbered(rig.share)
    for number in range(100):
        rig.say("trickle_up.1", f"NONSENSE {number}\n")
        assert numbered.read(TRICKLE_UP, 1, 0.0) is None
    (rig.share.guest / "trickle_up.2").symlink_to("/etc/passwd")
    assert numbered.read(TRICKLE_UP, 2, 0.0) is None
    assert caplog.text.count("is not taken") == COMPLAINTS
    numbered.close()
    numbered.close()


@pytest.mark.behaviour("B3")
def test_a_trickle_without_its_newline_is_taken_after_a_second(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    numbered = Numbered(rig.share)
    rig.say("trickle_up.1", "variety v")
    assert numbered.read(TRICKLE_UP, 1, 0.0) is None
    assert numbered.read(TRICKLE_UP, 1, 0.9) is None
    assert numbered.read(TRICKLE_UP, 1, 1.0) == numbered.read(TRICKLE_UP, 1, 1.1) == TrickleUp("v")
    numbered.close()


@pytest.mark.behaviour("B15")
def test_an_upload_is_brought_before_it_is_asked_for_and_answered_later(rig: Rig) -> None:
    rig.say("out/a.txt", "early")
    rig.say("upload.1", "name a.txt\n")
    forwarding = rig.forward()
    assert (rig.root / "place-of-a.txt").read_text() == "early"
    assert rig.project.staged == [(4, "a.txt")] and rig.project.released == (7, 4)
    assert rig.told("taken") == "trickle_up 0\nupload 1\n" and rig.told("uploaded.1") is None
    assert forwarding.brought == ["a.txt"]
    rig.project.statuses["a.txt"] = -131
    rig.new_share()
    rig.say("out/a.txt", "changed, which a client that uploads it must not see")
    rig.say("upload.1", "name a.txt\n")
    rig.say("upload.2", "name a.txt\n")
    rig.forward()
    assert (rig.root / "place-of-a.txt").read_text() == "early"
    assert rig.project.staged == [(4, "a.txt")]
    assert rig.told("uploaded.1") == rig.told("uploaded.2") == "status -131\n"


@pytest.mark.parametrize(
    ("name", "problem"),
    [("b.txt", "is missing"), ("secret", "is no output"), ("n" * 201, "too long")],
)
def test_an_upload_that_cannot_be(rig: Rig, name: str, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    rig.say("upload.1", f"name {name}\n")
    forwarding = rig.forward()
    assert rig.project.staged == [] and problem in caplog.text
    assert rig.told("taken") == "trickle_up 0\nupload 1\n" and rig.told("uploaded.1") == "status -108\n"
    assert forwarding.brought == [], "so it is brought at the end, if it is there then"


@pytest.mark.behaviour("B15")
def test_messages_of_the_project_are_there_at_each_start(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.project.messages = {1: "one", 2: "x" * 1025, 3: "a\r\n\nb\n"}
    for _ in range(2):
        rig.new_share()
        rig.forward()
        assert rig.told("trickle_down.1") == "text one\n"
        assert rig.told("trickle_down.2") == "text \n", "empty, for a gap would hide the next"
        assert rig.told("trickle_down.3") == "text a\ntext \ntext b\ntext \n"
    assert "message 2 of the project cannot be told" in caplog.text


def test_without_a_project_all_is_told(rig: Rig) -> None:
    lines: list[str] = []
    rig.trickle(1)
    rig.say("trickle_up.2", "variety v\ntext a\ntext b\n")
    rig.say("out/a.txt", "early")
    rig.say("upload.1", "name a.txt\n")

    async def go() -> None:
        places = {"a.txt": rig.root / "a.txt"}
        forwarding = Forwarding(Numbered(rig.share), rig.machine, places, Nobody(lines.append), lambda: 0.0)
        await forwarding.begin(anew=True)
        await look(forwarding)
        await forwarding.end()

    asyncio.run(go())
    assert lines == ["trickle 1 to the project, v: 1", "trickle 2 to the project, v: a b", "upload 1: a.txt"]
    assert (rig.root / "a.txt").read_text() == "early" and rig.told("uploaded.1") == "status 0\n"


def test_the_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_record(tmp_path) is None
    taken = Taken(3, (TakenUpload("a"), TakenUpload("b", -108)), (4, 5))
    write_record(tmp_path, taken)
    assert read_record(tmp_path) == taken and taken.staged == (7, 7)
    for broken in (b"", b"{}", b"[1]", b'{"format": "vmbridge-forwarded 1"}', b"[" * 10_000):
        (tmp_path / RECORD).write_bytes(broken)
        assert read_record(tmp_path) is None
    (tmp_path / RECORD).write_bytes(b'{"format": "vmbridge-forwarded 2"}')
    assert read_record(tmp_path) is None


# ----------------------------------------------------- whatever is killed at whatever instant


class Killed(BaseException):
    """The process is gone: no handler of errors runs."""


class Reaper:
    """Kills just before the n-th time that a name in a folder is changed. Between two of these nothing counts."""

    def __init__(self) -> None:
        self.left = -1
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.left < 0 or event not in ("os.rename", "os.remove"):
            return
        self.left -= 1
        if self.left < 0:
            raise Killed


REAPER = Reaper()


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    yield REAPER
    REAPER.left = -1


class Story:
    """A job in a slot whose bridge is killed; its guest goes back to its beginning each time. A client plays along."""

    def __init__(self, root: Path) -> None:
        self.rig = Rig(root)
        self.now = 0.0
        self.got: list[str] = []
        self.uploads: list[str] = []

    def live(self) -> None:
        rig = self.rig
        rig.new_share()
        rig.trickle(1, 2, 3)
        for name in ("a.txt", "b.txt"):
            rig.say(f"out/{name}", name)
        rig.say("upload.1", "name a.txt\n")
        rig.say("upload.2", "name b.txt\n")
        trickles = Trickles(rig.root, lambda: self.now)
        places = {name: rig.root / f"place-of-{name}" for name in ("a.txt", "b.txt")}
        forwarding = Forwarding(Numbered(rig.share), rig.machine, places, trickles, lambda: self.now)
        try:
            forwarding._begin(False, False)
            trickles.release(*forwarding._taken.staged)
            for _ in range(4):
                forwarding._forward(False)
                trickles.release(*forwarding._taken.staged)
                for _ in range(12):
                    self.now += 0.3
                    self.client(trickles.due(mailbox_full=False))
        finally:
            forwarding._guest.close()

    def client(self, message: str) -> None:
        left, REAPER.left = REAPER.left, -1
        file = self.rig.root / "trickle_up.xml"
        if "<have_new_trickle_up/>" in message and file.exists():
            self.got.append(file.read_text())
            file.unlink()
        if "<have_new_upload_file/>" in message:
            for request in sorted(self.rig.root.glob("boinc_ufr_*")):
                name = request.name[len("boinc_ufr_") :]
                assert (self.rig.root / f"place-of-{name}").read_text() == name
                self.uploads.append(name)
                request.unlink()
        REAPER.left = left


@pytest.mark.behaviour("B15")
def test_a_kill_at_any_instant_loses_and_doubles_nothing(tmp_path: Path, reaper: Reaper) -> None:
    kills = 0
    for at in range(1000):
        root = tmp_path / str(at)
        root.mkdir()
        story = Story(root)
        reaper.left = at
        try:
            story.live()
        except Killed:
            kills += 1
            # And once more, at the same number of steps into the second life.
            reaper.left = at // 2
            try:
                story.live()
            except Killed:
                pass
        else:
            break
        reaper.left = -1
        story.live()
        assert story.got == [f"<variety>v</variety>\n{n}" for n in (1, 2, 3)], f"killed at step {at}"
        assert story.uploads == ["a.txt", "b.txt"], f"killed at step {at}"
        shutil.rmtree(root)
    assert kills > 20, "there were that many steps"


# ------------------------------------------------------------------------------- earnings


def test_earnings_are_told_every_so_many_seconds_of_run_time() -> None:
    earnings = Earnings(10)
    told = [earnings.due(Progress(run_seconds=seconds)) for seconds in (100, 105, 109.9, 110.25, 119, 121)]
    assert [bool(messages) for messages in told] == [False, False, False, True, False, True]
    assert told[3]["cpu_time"] == "<cpu_time>110.250000</cpu_time>", "byte by byte the wrapper's"
    assert told[3]["vmbridge"] == "<runtime>110.250000</runtime>\n<cpu_time>0.000000</cpu_time>\n"
    earnings.due(Progress(run_seconds=50))
    assert earnings.due(Progress(0.5, 7.0, 6.5, 1e15, 3.0, run_seconds=60))["vmbridge"] == (
        "<runtime>60.000000</runtime>\n<cpu_time>7.000000</cpu_time>\n<guest_cpu_time>6.500000</guest_cpu_time>\n"
        "<fpops>1000000000000000.000000</fpops>\n<intops>3.000000</intops>\n<fraction_done>0.500000</fraction_done>\n"
    )


def test_operations_that_nobody_counts_are_estimated_and_called_so() -> None:
    def told(progress: Progress) -> str:
        earnings = Earnings(10, p_fpops=4e9)
        earnings.due(Progress())
        return earnings.due(progress)["vmbridge"]

    assert "<fpops_estimated>12000000000.000000</fpops_estimated>" in told(Progress(cpu_seconds=3.0, run_seconds=10))
    counted = told(Progress(cpu_seconds=3.0, fpops=5.0, run_seconds=10))
    assert "<fpops>5.000000</fpops>" in counted and "estimated" not in counted


def test_the_bounds_fit_together() -> None:
    assert module.AT_END >= 512, "an agent leaves so many at its end"
