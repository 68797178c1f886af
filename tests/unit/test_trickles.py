"""Trickles and uploads in a slot, with a client that is played here and a clock that is put forward."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.client.trickles import APART_S, HAVE_TRICKLE, HAVE_UPLOAD, TELL_AGAIN_S, WAITING_MOST, Pace, Trickles


class Client:
    """A slot, our side of it, and a client that looks when a test says so."""

    def __init__(self, slot: Path) -> None:
        self.slot = slot
        self.now = 100.0
        self.mailbox = ""
        self.got: list[str] = []
        self.uploads: list[str] = []
        self.start()

    def start(self) -> None:
        """Start our side, as a process that finds what the last one left."""
        self.trickles = Trickles(self.slot, lambda: self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass for our side alone."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.mailbox = self.trickles.due(mailbox_full=bool(self.mailbox)) or self.mailbox

    def look(self) -> None:
        """The client reads the mailbox and takes what it is told of."""
        message, self.mailbox = self.mailbox, ""
        file = self.slot / "trickle_up.xml"
        if "<have_new_trickle_up/>" in message and file.exists():
            self.got.append(file.read_text())
            file.unlink()
        if "<have_new_upload_file/>" in message:
            for request in self.slot.glob("boinc_ufr_*"):
                assert request.read_bytes() == b""
                self.uploads.append(request.name[len("boinc_ufr_") :])
                request.unlink()

    def run(self, seconds: int) -> None:
        """Both sides live on; the client looks once a second."""
        for _ in range(seconds):
            self.wait(1)
            self.look()

    def left(self) -> list[str]:
        return sorted(os.listdir(self.slot))


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def stage(client: Client, *texts: str) -> None:
    for number, text in enumerate(texts, 1):
        client.trickles.stage_trickle(number, "v", text)
    client.trickles.release(len(texts), 0)


def test_trickles_in_quick_succession_go_one_by_one(client: Client) -> None:
    stage(client, "one", "two\n", "three")
    assert not client.trickles.settled and client.trickles.left == 3
    client.wait(5)
    assert (client.slot / "trickle_up.xml").read_text() == "<variety>v</variety>\none", "the next one waits"
    client.run(10)
    assert client.got == [f"<variety>v</variety>\n{text}" for text in ("one", "two\n", "three")]
    assert client.trickles.settled and client.left() == []


def test_two_trickles_are_taken_in_different_seconds(client: Client) -> None:
    stage(client, "one", "two")
    client.wait(2)
    client.look()
    client.wait(APART_S - 0.1)
    assert not (client.slot / "trickle_up.xml").exists(), "the client names them by the second"
    client.wait(0.3)
    assert (client.slot / "trickle_up.xml").exists()


def test_what_is_not_released_goes_nowhere(client: Client) -> None:
    client.trickles.stage_trickle(1, "v", "one")
    client.trickles.stage_upload(1, "a.txt")
    client.run(10)
    assert client.got == [] and client.uploads == []


def test_what_was_staged_and_not_recorded_is_forgotten(client: Client) -> None:
    for number in (4, 5, 6, 7):
        client.trickles.stage_trickle(number, "v", str(number))
    client.trickles.stage_upload(1, "a")
    client.trickles.stage_upload(2, "b")
    client.start()
    assert client.trickles.begin((5, 1)) == (5, 1)
    client.trickles.release(5, 1)
    client.run(10)
    assert client.got == ["<variety>v</variety>\n4", "<variety>v</variety>\n5"] and client.uploads == ["a"]
    assert client.left() == []


def test_without_a_record_all_that_is_there_goes_on(client: Client) -> None:
    (client.slot / ".vmbridge.trickle_up.x").touch()
    (client.slot / ".vmbridge.upload.3").touch()
    assert client.trickles.begin(None) == (0, 0)
    client.trickles.stage_trickle(10, "v", "b")
    client.trickles.stage_trickle(9, "v", "a")
    client.start()
    assert client.trickles.begin(None) == (10, 0)
    client.trickles.stage_trickle(11, "v", "c")
    client.trickles.release(11, 0)
    client.run(10)
    assert [text[-1] for text in client.got] == ["a", "b", "c"]


def test_one_that_an_earlier_process_put_in_its_place_is_told_of(client: Client) -> None:
    (client.slot / "trickle_up.xml").write_text("left")
    client.start()
    client.trickles.begin((0, 0))
    assert not client.trickles.settled
    client.run(2)
    assert client.got == ["left"] and client.trickles.settled


def test_a_client_that_has_not_heard_is_told_again(client: Client) -> None:
    stage(client, "one")
    client.wait(2)
    assert client.mailbox == HAVE_TRICKLE
    client.mailbox = ""
    client.wait(TELL_AGAIN_S - 1.5)
    assert client.mailbox == "", "it may be about to take it"
    client.wait(2)
    assert client.mailbox == HAVE_TRICKLE


def test_a_full_mailbox_is_waited_for(client: Client) -> None:
    stage(client, "one")
    client.mailbox = "something"
    client.wait(20)
    assert client.mailbox == "something"
    client.mailbox = ""
    client.wait(0.2)
    assert client.mailbox == HAVE_TRICKLE


def test_too_many_waiting_are_not_wanted(client: Client) -> None:
    assert client.trickles.room()
    stage(client, *(str(n) for n in range(WAITING_MOST)))
    assert not client.trickles.room()
    client.run(4)
    assert client.trickles.room()


def test_of_our_own_only_the_newest_of_a_kind_goes_after_the_guests(client: Client) -> None:
    client.trickles.say("cpu_time", "old")
    client.trickles.say("vmbridge", "other")
    stage(client, "guest")
    client.trickles.say("cpu_time", "new")
    client.run(10)
    assert client.got == [
        "<variety>v</variety>\nguest",
        "<variety>cpu_time</variety>\nnew",
        "<variety>vmbridge</variety>\nother",
    ]


def test_a_full_disk_makes_our_own_wait(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    (client.slot / ".trickle_up.xml.tmp").mkdir()  # as good as a full disk: the temporary file cannot be made
    client.trickles.say("cpu_time", "text")
    client.run(3)
    assert client.got == [] and not client.trickles.settled
    assert client.trickles.stalled_s() > 2.5, "and it does not count as having gone on"
    assert caplog.text.count("cannot be handed to the client") == 1
    (client.slot / ".trickle_up.xml.tmp").rmdir()
    client.run(3)
    assert client.got == ["<variety>cpu_time</variety>\ntext"]


def test_a_trickle_that_somebody_removed_does_not_stop_the_others(client: Client) -> None:
    stage(client, "one", "two")
    (client.slot / ".vmbridge.trickle_up.1").unlink()
    client.run(5)
    assert client.got == ["<variety>v</variety>\ntwo"] and client.trickles.settled


def test_an_upload_from_its_request_to_its_answer(client: Client) -> None:
    (client.slot / "boinc_ufs_a.txt").write_text("<status>0</status>\n")
    client.trickles.stage_upload(1, "a.txt")
    assert client.trickles.upload_status("a.txt") is None, "that was the answer to an earlier request"
    client.trickles.release(0, 1)
    assert not client.trickles.settled
    client.wait(0.1)
    assert client.mailbox == HAVE_UPLOAD
    client.look()
    client.wait(0.2)
    assert client.uploads == ["a.txt"] and client.trickles.settled
    for text in ("", "<status>", "<status>x</status>"):
        (client.slot / "boinc_ufs_a.txt").write_text(text)
        assert client.trickles.upload_status("a.txt") is None
    (client.slot / "boinc_ufs_a.txt").write_text("<status>-131</status>\n")
    assert client.trickles.upload_status("a.txt") == -131


def test_a_request_that_an_earlier_process_made_is_told_of_until_it_is_taken(client: Client) -> None:
    (client.slot / "boinc_ufr_a.txt").touch()
    client.start()
    client.trickles.begin((0, 1))
    client.wait(1)
    assert client.mailbox == HAVE_UPLOAD
    client.mailbox = ""
    client.wait(TELL_AGAIN_S + 1)
    client.look()
    assert client.uploads == ["a.txt"]


def test_a_request_that_cannot_be_made_now_is_made_later(client: Client) -> None:
    client.trickles.stage_trickle(1, "v", "text")
    client.trickles.stage_upload(1, "a")
    (client.slot / "boinc_ufr_a").mkdir()  # as good as any trouble of the disk
    with pytest.raises(OSError):
        client.trickles.release(1, 1)
    (client.slot / "boinc_ufr_a").rmdir()
    client.trickles.release(1, 1)
    client.run(5)
    assert client.uploads == ["a"] and len(client.got) == 1


def test_both_in_one_message(client: Client) -> None:
    client.wait(2)
    client.trickles.stage_trickle(1, "v", "text")
    client.trickles.stage_upload(1, "a")
    client.trickles.release(1, 1)
    client.wait(0.1)
    assert client.mailbox == HAVE_TRICKLE + HAVE_UPLOAD


def from_project(client: Client, name: str, text: str, age_s: float = 60) -> None:
    path = client.slot / name
    path.write_text(text)
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))


def test_messages_of_the_project_are_numbered_by_their_time_and_kept(client: Client) -> None:
    for time, text in (("1700000009", "first\n"), ("1700000010.5", "second"), ("999999999", "zeroth")):
        from_project(client, f"trickle_down_{time}", text)
    assert client.trickles.trickles_down(0) == {1: "zeroth", 2: "first\n", 3: "second"}
    assert client.left() == [f".vmbridge.trickle_down.{n}" for n in (1, 2, 3)]
    from_project(client, "trickle_down_1600000000", "late")
    client.start()
    assert client.trickles.trickles_down(0) == {1: "zeroth", 2: "first\n", 3: "second", 4: "late"}
    assert client.trickles.trickles_down(3) == {4: "late"}


def test_a_message_that_is_being_written_is_left_alone(client: Client) -> None:
    from_project(client, "trickle_down_2", "half", age_s=0)
    from_project(client, "trickle_down_1", "whole")
    from_project(client, "trickle_down_3", "must not overtake")
    assert client.trickles.trickles_down(0) == {1: "whole"}
    os.utime(client.slot / "trickle_down_2", (1, 1))
    assert client.trickles.trickles_down(1) == {2: "half", 3: "must not overtake"}


def test_a_file_dated_in_the_future_is_taken_too(client: Client) -> None:
    from_project(client, "trickle_down_1", "text", age_s=-86400)
    assert client.trickles.trickles_down(0) == {1: "text"}


def test_the_pace() -> None:
    pace = Pace(10.0, lies_there=False)
    assert not pace.may_write(10.5), "an earlier process may have sent one just now"
    assert pace.may_write(11.0) and not pace.must_tell(11.0)
    pace.wrote()
    assert pace.must_tell(11.0) and not pace.may_write(20.0)
    pace.told(11.0)
    assert not pace.must_tell(15.9) and pace.must_tell(16.0)
    assert not pace.look(17.0, lies_there=True) and pace.look(18.0, lies_there=False)
    assert not pace.look(18.1, lies_there=False)
    assert not pace.may_write(18.9) and pace.may_write(19.0)
    pace.failed(19.0)
    assert not pace.may_write(19.9) and pace.may_write(20.0)
