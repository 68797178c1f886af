"""What a power cut leaves: the simulation of it, and what the bridge must have made durable by then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from signal import SIGKILL

import pytest

from bridge.client.trickles import Trickles
from bridge.guest.numbered import Numbered
from bridge.life.accounting import Progress
from bridge.life.forwarding import Forwarding
from bridge.life.program_state import ProgramState
from protocol.files import Door, sync_folder, write_atomic
from protocol.layout import Share

from ..chaos.power import Power, pending

# ------------------------------------------------------------------------- reading a journal


def paths(*lines: str) -> list[str]:
    return [os.fspath(change.path) for change in pending(lines).changes]


def test_a_name_is_durable_when_its_folder_is_synced() -> None:
    assert paths("made\t1\t/s/a", "made\t2\t/s/d/b", "names\t2\t/s") == ["/s/d/b"]
    assert paths("made\t1\t/s/a", "names\t1\t/s", "gone\t1\t/s/a\t-") == ["/s/a"]


def test_a_sync_reaches_no_further_than_its_beginning() -> None:
    assert paths("made\t1\t/s/a", "made\t2\t/s/b", "names\t1\t/s") == ["/s/b"]
    assert pending(["data\t1\t99\t/s/a", "data\t1\t99\t/s/a", "sync\t1\t5\t1\t/s/a"]).written == {1: 1}


def test_a_move_is_durable_with_either_folder() -> None:
    for folder in ("/s", "/s/machine"):
        assert paths("moved\t1\t/s/machine/result\t/s/out.txt\t-", f"names\t1\t{folder}") == []


def test_what_lay_in_a_folder_that_is_durably_gone_is_gone() -> None:
    assert paths("gone\t1\t/s/machine/x\t/g/1", "rmdir\t/s/machine", "made\t2\t/s/a", "names\t3\t/s") == []


def test_bytes_that_were_synced_are_safe_but_from_being_cut() -> None:
    assert pending(["data\t1\t9999\t/s/a", "sync\t1\t100\t1\t/s/a", "data\t1\t9999\t/s/a"]).safe == {1: 100}
    assert pending(["data\t1\t9999\t/s/a", "sync\t1\t100\t1\t/s/a", "data\t1\t0\t/s/a"]).safe == {1: 0}


# ---------------------------------------------------------------------------- a real process


class Cut:
    """A folder whose power is cut when a process has done its work there."""

    def __init__(self, beside: Path, libraries: Path) -> None:
        self.root = beside / "root"
        self.root.mkdir(parents=True)
        self._power = Power(self.root, beside)
        self._libraries = libraries

    def after(self, function: str, call: str = "") -> bool:
        """Do a function of this module in a process of its own; return whether it was killed, as `call` says."""
        source = f"from tests.unit.test_power import *; {function}(Path({os.fspath(self.root)!r}))"
        preloaded = " ".join(os.fspath(self._libraries / name) for name in ("calls.so", "power.so"))
        variables = {**os.environ, **self._power.environment(), "LD_PRELOAD": preloaded, "CHAOS_CALL": call}
        ended = subprocess.run([sys.executable, "-c", source], env=variables, check=False)
        assert ended.returncode in (0, -SIGKILL)
        return ended.returncode != 0

    def lose(self, seed: int) -> dict[str, str]:
        """Lose what was not durable; return what is left."""
        self._power.cut(Random(seed))
        return {
            os.fspath(path.relative_to(self.root)): path.read_text() for path in self.root.rglob("*") if path.is_file()
        }


@pytest.fixture
def cuts(tmp_path: Path, libraries: Path) -> Iterator[Cut]:
    """Cuts, one after the other, each of a folder of its own."""
    return (Cut(tmp_path / str(number), libraries) for number in range(100_000))


def write_twice(root: Path) -> None:
    write_atomic(root / "file", b"old\n", durable=True)
    write_atomic(root / "file", b"new\n", durable=False)


def write_twice_durably(root: Path) -> None:
    write_atomic(root / "file", b"old\n", durable=True)
    write_atomic(root / "file", b"new\n", durable=True)


def test_a_name_may_be_durable_and_its_data_not(cuts: Iterator[Cut]) -> None:
    found = []
    for seed in (0, 3):
        cut = next(cuts)
        assert not cut.after("write_twice")
        found.append(cut.lose(seed)["file"])
    assert found == ["old\n", ""]


def test_what_is_durable_stays(cuts: Iterator[Cut]) -> None:
    for seed in (0, 3):
        cut = next(cuts)
        assert not cut.after("write_twice_durably")
        assert cut.lose(seed) == {"file": "new\n"}


# --------------------------------------------------------------------------- trickles


def send_our_own(root: Path) -> None:
    trickles = Trickles(root, iter(range(100)).__next__)
    trickles.say("vmbridge", "all of it\n")
    for _ in range(5):
        trickles.due(mailbox_full=False)


def test_a_trickle_of_our_own_is_whole_or_not_there(cuts: Iterator[Cut]) -> None:
    """What `--trickle` sends was not synced: after a power cut the client could find, and send, an empty one."""
    for seed in (1, 3):
        cut = next(cuts)
        assert not cut.after("send_our_own")
        assert cut.lose(seed) == {"trickle_up.xml": "<variety>vmbridge</variety>\nall of it\n"}


def take_down(root: Path) -> None:
    path = root / "trickle_down_1"
    path.write_text("for the guest\n")  # as the client does, which syncs nothing
    os.utime(path, (1, 1))
    assert Trickles(root).trickles_down(0) == {1: "for the guest\n"}


def test_a_message_that_a_guest_was_told_is_kept_whole(cuts: Iterator[Cut]) -> None:
    """Its new name was durable and its text was not: after a power cut the next guest could be told an empty one."""
    for seed in (1, 3):
        cut = next(cuts)
        assert not cut.after("take_down")
        assert cut.lose(seed) == {".vmbridge.trickle_down.1": "for the guest\n"}


def live(root: Path) -> None:
    """A guest that begins at its beginning and sends all, a bridge that forwards it, a client that takes it."""
    share = Share.two_folders(root / "shared")
    share.host.mkdir(parents=True, exist_ok=True)
    (share.guest / "out").mkdir(parents=True, exist_ok=True)
    machine = root / "machine"
    if not machine.exists():
        machine.mkdir()
        sync_folder(root)
    for name in ("a.txt", "b.txt"):
        (share.guest / "out" / name).write_text(name)
    for number, name in enumerate(("a.txt", "b.txt"), 1):
        (share.guest / f"upload.{number}").write_text(f"name {name}\n")
        (share.guest / f"trickle_up.{number}").write_text(f"variety v\ntext {number}\n")
    now = iter(range(10_000)).__next__
    trickles = Trickles(root, now)
    places = {name: root / f"place-of-{name}" for name in ("a.txt", "b.txt")}
    forwarding = Forwarding(Numbered(share), machine, places, trickles, now)
    forwarding._begin(False, False)
    trickles.release(*forwarding._taken.staged)
    for _ in range(3):
        forwarding._forward(False)
        trickles.release(*forwarding._taken.staged)
        for _ in range(6):
            take(root, trickles.due(mailbox_full=False))
    forwarding._guest.close()


def take(root: Path, message: str) -> None:
    """The client takes what it is told of, and what it does is durable: its server has it."""
    taken = []
    if "<have_new_trickle_up/>" in message:
        taken.append(root / "trickle_up.xml")
    if "<have_new_upload_file/>" in message:
        taken += sorted(root.glob("boinc_ufr_*"))
    for path in taken:
        with (root.parent / "server").open("a") as server:
            name = path.name.removeprefix("boinc_ufr_")
            content = path if path.name == name else root / f"place-of-{name}"
            server.write(f"{name}: {content.read_text()!r}\n")
        path.unlink()
        sync_folder(root)


ALL = [
    "a.txt: 'a.txt'",
    "b.txt: 'b.txt'",
    "trickle_up.xml: '<variety>v</variety>\\n1'",
    "trickle_up.xml: '<variety>v</variety>\\n2'",
]


@pytest.mark.behaviour("B15")
@pytest.mark.parametrize("how", [-1, -2], ids=["before", "after"])
@pytest.mark.parametrize("path", [".vmbridge.", "/machine/", "/place-of-", "boinc_ufr_", "trickle_up.xml"])
def test_a_power_cut_at_any_rename_loses_and_doubles_nothing(path: str, how: int, cuts: Iterator[Cut]) -> None:
    killed, number = True, 0
    while killed:
        number += 1
        cut = next(cuts)
        killed = cut.after("live", f"rename {number} {how} 1 {path}")
        cut.lose(number)
        live(cut.root)
        told = (cut.root.parent / "server").read_text().splitlines()
        assert sorted(told) == ALL, f"cut at rename {number}"
    assert number > 2, "there were some"


# ---------------------------------------------------------------------- the program's own state


def keep_three_sets(root: Path) -> None:
    """A program saves three times; each set that is kept is told in a file that no power cut reaches."""
    guest, machine = root / "shared" / "guest", root / "machine"
    (guest / "saved").mkdir(parents=True, exist_ok=True)
    machine.mkdir(exist_ok=True)
    sync_folder(root)
    state = ProgramState(machine, ("a", "b"), lambda need: None)
    for number in (1, 2, 3):
        for name in ("a", "b"):
            (guest / "saved" / name).write_text(f"{name} {number}")
        with Door(guest) as door:
            state.find()
            state.take(door, ("a", "b"), Progress(), None)
        (root.parent / "told").write_text(str(number))


@pytest.mark.parametrize("how", [-1, -2], ids=["before", "after"])
def test_a_power_cut_leaves_a_whole_set_of_the_programs_files(how: int, cuts: Iterator[Cut]) -> None:
    """The newest of which the guest was told, or a newer one."""
    operations = ("rename /machine/saved/", "fsync /machine/saved/", "unlink /machine/saved/")
    for operation, path in (one.split() for one in operations):
        for number in (1, 2, 5):
            cut = next(cuts)
            if not cut.after("keep_three_sets", f"{operation} {number} {how} 1 {path}"):
                break
            cut.lose(number)
            state = ProgramState(cut.root / "machine", ("a", "b"), lambda need: None)
            state.find()
            told = cut.root.parent / "told"
            least = int(told.read_text()) if told.exists() else 0
            assert (state.newest is not None) >= (least > 0), f"cut at {operation} {number}"
            if state.newest is not None:
                texts = {path.read_text()[2:] for path in state.newest.files.values()}
                assert len(texts) == 1 and int(texts.pop()) >= least, f"cut at {operation} {number}"
