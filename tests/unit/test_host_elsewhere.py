"""Programs on systems that no test of ours has run on: with what the system does passed in, or as far as Linux goes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from bridge.errors import CommandFailed
from bridge.host.leftovers import MARK
from bridge.host.macos import MacTree
from bridge.host.program import Program
from bridge.host.windows import WindowsTree

from ..patience import AT_MOST_S, has_ended, until

# macOS: no child subreaper, but processes and signals as here


def on_a_mac(slot: Path, script: str, act: Callable[[MacTree], Awaitable[None]], **how: object) -> MacTree:
    async def go() -> MacTree:
        program = Program(name="app", argv=("/bin/sh", "-c", script), slot=slot, cwd=slot, priority=2)
        tree = MacTree(program, **how)  # type: ignore[arg-type]
        try:
            await tree.start()
            await act(tree)
        finally:
            await tree.end()
        return tree

    return asyncio.run(asyncio.wait_for(go(), AT_MOST_S))


def pid_in(file: Path) -> int:
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


FAMILY = "setsid sh -c 'echo $$ >a; exec sleep 1000' & (sh -c 'echo $$ >b; exec sleep 1000' &); echo $$ >c; sleep 1000"


def test_mac_all_of_it_stands_still_and_ends(tmp_path: Path) -> None:
    """Double forks, too: whose parent has ended is known by its mark."""

    async def act(tree: MacTree) -> None:
        pids = [await asyncio.to_thread(pid_in, tmp_path / name) for name in "abc"]
        still = {psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP}
        assert tree.running
        tree.suspend()
        until(lambda: {psutil.Process(pid).status() for pid in pids} <= still)
        tree.resume()
        until(lambda: not {psutil.Process(pid).status() for pid in pids} & still)
        assert {psutil.Process(pid).nice() for pid in pids} <= {0, 10}

    tree = on_a_mac(tmp_path, FAMILY, act)
    assert all(has_ended(int((tmp_path / name).read_text())) for name in "abc") and not tree.running


def test_mac_a_program_may_prepare_itself(tmp_path: Path) -> None:
    async def act(tree: MacTree) -> None:
        pid = await asyncio.to_thread(pid_in, tmp_path / "c")
        tree.suspend()
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)

    on_a_mac(tmp_path, "echo $$ >c; exec sleep 1000", act, use_tstp=True)


def test_mac_the_time_of_all_that_was_seen(tmp_path: Path) -> None:
    async def act(tree: MacTree) -> None:
        while tree.cpu_seconds() < 0.3:
            await asyncio.sleep(0.05)
        before = tree.cpu_seconds()
        psutil.Process(pid_in(tmp_path / "b")).kill()
        assert tree.cpu_seconds() >= before, "who has ended has used it all the same"
        tree.ask()
        assert await tree.wait() == -signal.SIGTERM

    on_a_mac(tmp_path, "sh -c 'echo $$ >b; while :; do :; done' & while :; do :; done", act)


def test_mac_no_such_program(tmp_path: Path) -> None:
    async def go() -> None:
        await MacTree(Program(name="app", argv=("/nonexistent",), slot=tmp_path, cwd=tmp_path)).start()

    with pytest.raises(CommandFailed, match="app cannot be started: /nonexistent: No such file or directory"):
        asyncio.run(go())


# Windows


class FakeWindows:
    """A job object with processes that start others when they are looked at."""

    def __init__(self) -> None:
        self.living: dict[int, int] = {}
        self.to_come: list[int] = []
        self.calls: list[str] = []
        self.refuses = False
        self.env: dict[str, str] = {}
        self._ended = threading.Event()

    def create_job(self) -> int:
        return 1

    def start(self, job: int, program: Program, env: dict[str, str] | None, output: int | None) -> int:
        if self.refuses:
            raise OSError(2, "The system cannot find the file specified")
        self.env = env or {}
        self.living[100] = 0
        return 7

    def pids(self, job: int) -> list[int]:
        found = list(self.living)
        if self.to_come and not all(self.living.values()):
            self.living[self.to_come.pop()] = 0
        return found

    def suspend(self, pid: int) -> None:
        self.living[pid] += 1

    def resume(self, pid: int) -> None:
        self.living[pid] -= 1

    def cpu_seconds(self, job: int) -> float:
        return 5.0 if self.living else 4.0

    def terminate(self, job: int) -> None:
        self.living.clear()
        self._ended.set()

    def wait(self, process: int) -> int:
        self._ended.wait(AT_MOST_S)
        return 1

    def close(self, handle: int) -> None:
        self.calls.append(f"close {handle}")


def test_windows_all_of_it_stands_still_as_often_as_it_runs(tmp_path: Path) -> None:
    async def go() -> None:
        windows = FakeWindows()
        tree = WindowsTree(Program(name="app", argv=("app.exe",), slot=tmp_path, cwd=tmp_path, env=("A=b=c",)), windows)
        await tree.start()
        windows.to_come = [103, 102, 101]
        tree.suspend()
        assert windows.living == {100: 1, 101: 1, 102: 1, 103: 1}, "also what was started meanwhile"
        tree.suspend()
        assert set(windows.living.values()) == {1}, "Windows counts"
        del windows.living[101]
        tree.resume()
        assert windows.living == {100: 0, 102: 0, 103: 0}
        tree.ask()
        assert tree.running and tree.cpu_seconds() == 5.0
        await tree.end()
        await tree.end()
        assert await tree.wait() == 1 and not tree.running
        assert windows.calls == ["close 1"] and tree.cpu_seconds() == 5.0, "it never becomes less"
        assert windows.env == {"A": "b=c", MARK: f"{os.getpid()}:{tmp_path}"}

    asyncio.run(asyncio.wait_for(go(), AT_MOST_S))


def test_windows_no_such_program(tmp_path: Path) -> None:
    async def go() -> None:
        windows = FakeWindows()
        windows.refuses = True
        tree = WindowsTree(Program(name="app", argv=("app.exe",), slot=tmp_path, cwd=tmp_path), windows)
        with pytest.raises(CommandFailed, match="app cannot be started: The system cannot find the file specified"):
            await tree.start()
        assert windows.calls == ["close 1"]
        await tree.end()

    asyncio.run(go())
