"""A machine's process: what it used, what it said, and that it ends. Real processes, small ones."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from bridge.errors import CommandFailed
from bridge.hypervisors.child import Child, clean_environment, run_briefly
from bridge.tail import TAIL_BYTES

from ..patience import AT_MOST_S, has_ended, until


async def start(script: str) -> Child:
    child = Child("test")
    await child.start(["/bin/sh", "-c", script], env=clean_environment())
    return child


def test_a_file_that_would_be_too_large_is_an_error_and_no_death(tmp_path: Path) -> None:
    file = tmp_path / "big"

    async def go() -> None:
        child = Child("test")
        script = f"dd if=/dev/zero of={file} bs=1000 count=100; echo lives on"
        await child.start(["/bin/sh", "-c", script], env=clean_environment(LC_ALL="C"), largest_file=10_000)
        assert await child.wait() == 0
        assert "File too large" in child.tail and "lives on" in child.tail
        assert file.stat().st_size == 10_000

    asyncio.run(asyncio.wait_for(go(), AT_MOST_S))


def test_kill_ends_the_descendants_too() -> None:
    async def go() -> list[int]:
        child = await start("sh -c 'while :; do :; done' & echo $!; wait")
        deadline = time.monotonic() + AT_MOST_S
        while not child.tail.endswith("\n"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        grandchild = psutil.Process(int(child.tail))
        family = [grandchild.pid, grandchild.ppid()]
        await child.kill()
        await child.kill()
        return family

    family = asyncio.run(go())
    until(lambda: all(map(has_ended, family)))


def test_only_the_end_of_what_it_says_is_kept() -> None:
    async def go() -> Child:
        child = await start(f"head -c {3 * TAIL_BYTES} /dev/zero | tr '\\0' x; echo the end; exit 3")
        assert await child.wait() == 3
        await child.kill()
        return child

    tail = asyncio.run(go()).tail
    assert len(tail) == TAIL_BYTES and tail.endswith("xthe end\n")


def test_a_program_that_does_not_end_is_ended() -> None:
    with pytest.raises(CommandFailed, match=r"sleep 60 has not ended in 0\.2 seconds"):
        asyncio.run(run_briefly(["/bin/sleep", "60"], within_s=0.2))
    assert not [process for process in psutil.Process().children() if process.name() == "sleep"]


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(CommandFailed, match="/nonexistent cannot be started: No such file or directory"):
        asyncio.run(run_briefly(["/nonexistent"]))


def test_what_the_client_set_for_others_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", ".:../../projects/x")
    assert "LD_LIBRARY_PATH" not in clean_environment() and clean_environment()["PATH"] == os.environ["PATH"]
