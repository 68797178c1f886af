"""Watching a guest's folder: real notices, real files, one event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.guest import watch as module
from bridge.guest.watch import Watch
from protocol.files import Door, write_atomic
from protocol.layout import Share
from protocol.messages import FractionDone
from protocol.session import Garbled, Said

from ..patience import AT_MOST_S

News = list[module.News]


def watching(folder: Path, act: Callable[[Watch, News], object], *, wait: Callable[[News], bool] = bool) -> News:
    """Watch `folder`, do `act`, and return what was heard once `wait` is satisfied."""

    async def go() -> News:
        heard: News = []
        watch = Watch(Share.one_folder(folder), heard.append)
        watch.start()
        try:
            act(watch, heard)
            deadline = time.monotonic() + AT_MOST_S
            while not wait(heard):
                assert time.monotonic() < deadline, f"not heard in time; heard: {heard}"
                await asyncio.sleep(0.005)
        finally:
            watch.stop()
            watch.stop()
        return heard

    return asyncio.run(go())


def half(folder: Path) -> None:
    write_atomic(folder / "fraction_done", b"0.5\n", durable=False)


HALF = [Said("fraction_done", FractionDone(0.5))]


def test_a_rename_is_noticed_without_waiting_for_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REREAD_EVERY_S", 3600)
    assert watching(tmp_path, lambda watch, heard: half(tmp_path)) == HALF


def test_an_echo_in_place_is_noticed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REREAD_EVERY_S", 3600)
    assert watching(tmp_path, lambda watch, heard: (tmp_path / "fraction_done").write_text("0.5\n")) == HALF


def test_a_file_moved_in_from_elsewhere_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REREAD_EVERY_S", 3600)
    guest = tmp_path / "guest"
    guest.mkdir()
    half(tmp_path)
    assert watching(guest, lambda watch, heard: (tmp_path / "fraction_done").rename(guest / "fraction_done")) == HALF


@pytest.mark.behaviour("B8")
def test_without_any_notice_the_next_look_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REREAD_EVERY_S", 0.05)
    monkeypatch.setattr(module, "_HINTS", [])

    def lose_all_notices(watch: Watch, heard: News) -> None:
        watch._observer.unschedule_all()
        half(tmp_path)

    assert watching(tmp_path, lose_all_notices) == HALF


def test_where_notices_are_not_to_be_had_it_says_so_and_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class NoMoreWatches:
        daemon = False

        def schedule(self, *args: object, **options: object) -> None:
            raise OSError(28, "inotify watch limit reached")

        def is_alive(self) -> bool:
            return False

    monkeypatch.setattr(module, "Observer", NoMoreWatches)
    monkeypatch.setattr(module, "REREAD_EVERY_S", 0.05)
    assert watching(tmp_path, lambda watch, heard: half(tmp_path)) == HALF
    assert "inotify watch limit reached" in caplog.text


@pytest.mark.behaviour("B4")
def test_other_names_are_never_opened(tmp_path: Path) -> None:
    def act(watch: Watch, heard: News) -> None:
        for name in (".status.tmp", "results", "status.bak", "command", "näme", os.fsdecode(b"\xff")):
            (tmp_path / name).write_text("protocol 1\nstate ready\nheartbeat 0\n")
        os.mkfifo(tmp_path / "pipe")
        half(tmp_path)

    assert watching(tmp_path, act) == HALF


def test_hundreds_of_notices_are_few_reads_and_the_last_value_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = Door.read

    def counted(door: Door, name: str, limit: int) -> bytes | None:
        reads.append(name)
        return read(door, name, limit)

    monkeypatch.setattr(Door, "read", counted)
    monkeypatch.setattr(module, "REREAD_EVERY_S", 1e9)  # only what notices cause; a beat may come at any moment

    def act(watch: Watch, heard: News) -> None:
        def write() -> None:
            for number in range(300):
                write_atomic(tmp_path / "fraction_done", f"0.{number:03}\n".encode(), durable=False)

        threading.Thread(target=write).start()

    last = Said("fraction_done", FractionDone(0.299))
    begun = time.monotonic()
    heard = watching(tmp_path, act, wait=lambda heard: last in heard)
    assert heard[-1] == last
    most = 2 + (time.monotonic() - begun) / module.SPACED_S
    assert reads.count("fraction_done") <= most, "a read for every notice would let a guest keep the host busy"


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(door: Door, name: str, limit: int) -> bytes | None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Door, "read", forbidden)
    [first, *_] = watching(tmp_path, lambda watch, heard: None)
    assert isinstance(first, Garbled) and "it cannot be read: Permission denied" in str(first.error)


def test_nothing_is_heard_after_the_end(tmp_path: Path) -> None:
    heard = watching(tmp_path, lambda watch, heard: None, wait=lambda heard: True)
    half(tmp_path)
    time.sleep(0.05)
    assert heard == []


SET_BACK = """
import asyncio, struct, sys
from pathlib import Path
from bridge.guest.watch import Watch
from protocol.layout import Share

async def main(root):
    guest = root / "guest"
    guest.mkdir()
    watch = Watch(Share.one_folder(guest), print)
    watch.start()
    (guest / "x").touch()
    (guest / "x").rename(root / "elsewhere")
    await asyncio.sleep(0.2)  # within the half second in which the notice is kept
    with (root / "clock").open("r+b") as clock:
        clock.write(struct.pack("=q", -3600))
    await asyncio.sleep(0.5)
    watch.stop()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_clock_that_is_set_back_does_not_hold_up_the_end(tmp_path: Path, libraries: Path) -> None:
    """watchdog keeps a notice of a file moved away for half a second by the time of day. When the clock was set back by
    an hour meanwhile, its thread slept for an hour, and the end of the job waited for it.
    """
    (tmp_path / "clock").write_bytes(bytes(8))
    preloaded = {"LD_PRELOAD": os.fspath(libraries / "clock.so"), "CHAOS_CLOCK": os.fspath(tmp_path / "clock")}
    words = [sys.executable, "-c", SET_BACK, os.fspath(tmp_path)]
    subprocess.run(words, env={**os.environ, **preloaded}, check=True, timeout=AT_MOST_S)
