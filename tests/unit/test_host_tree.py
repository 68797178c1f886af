"""All that descends from a program: counted as the kernel counts it, and ended to the last process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bridge.errors import HostError
from bridge.host.leftovers import MARK, end_leftovers, mark
from bridge.host.linux import LinuxTree
from bridge.host.processes import descendants, signal_all
from bridge.host.program import Program

from ..patience import AT_MOST_S, has_ended, until

CLOSE = 0.05
"""CPU time is to be so near to the kernel's own account, relatively."""

SLACK_S = 0.05
"""The kernel hands on the time of those who wait for their children in hundredths of seconds."""


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled program with children of every kind."""
    program = tmp_path_factory.mktemp("load") / "host_load"
    subprocess.run(["cc", "-O1", "-o", program, Path(__file__).with_name("host_load.c")], check=True)
    return str(program)


class Account:
    """What the kernel says that the processes of a control group have used."""

    def __init__(self, folder: Path) -> None:
        self.procs = folder / "cgroup.procs"
        self._nanoseconds = folder / "cpuacct.usage"
        self._stat = folder / "cpu.stat"

    def seconds(self) -> float:
        if self._nanoseconds.exists():
            return int(self._nanoseconds.read_text()) / 1e9
        return int(self._stat.read_text().split()[1]) / 1e6


@pytest.fixture
def account() -> Iterator[Account | None]:
    """A control group of our own; None where we may make none."""
    for root in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"):
        folder = Path(root) / f"vmbridge-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            made = Account(folder)
            try:
                made.seconds()
                subprocess.run(["/bin/sh", "-c", f"echo $$ >{made.procs}"], check=True, stderr=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError, IndexError):
                folder.rmdir()
                continue
            yield made
            until(lambda: not made.procs.read_text())  # noqa: B023
            folder.rmdir()
            return
    yield None


def program(slot: Path, *argv: str, account: Account | None = None) -> Program:
    if account is not None:
        argv = ("/bin/sh", "-c", f'echo $$ >{account.procs}; exec "$@"', "sh", *argv)
    return Program(name="app", argv=argv, slot=slot, cwd=slot)


def run(slot: Path, argv: tuple[str, ...], act: Callable[[LinuxTree], Awaitable[None]], **how: object) -> LinuxTree:
    """Start a program, do something meanwhile, and end it."""

    async def go() -> LinuxTree:
        tree = LinuxTree(program(slot, *argv, **how))  # type: ignore[arg-type]
        try:
            await tree.start()
            await act(tree)
        finally:
            await tree.end()
        return tree

    return asyncio.run(asyncio.wait_for(go(), 2 * AT_MOST_S))


def pid_in(file: Path) -> int:
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


# CPU time

WORK = [
    (("burn", "1"), 1.0),
    (("forks", "4", "0.25"), 1.0),
    (("daemon", "1"), 1.0),
    (("short", "2000", "0.3"), 0.6),
    (("left", "1000", "0.5"), 0.5),
]


@pytest.mark.parametrize(("work", "at_least_s"), WORK, ids=[work[0] for work, _ in WORK])
def test_cpu_time_is_the_kernels(
    tmp_path: Path, load: str, account: Account | None, work: tuple[str, ...], at_least_s: float
) -> None:
    """While it runs, too. BOINC's wrapper never sees a child that is born and has ended between two of its looks."""
    seen: list[tuple[float, float, float]] = []

    async def act(tree: LinuxTree) -> None:
        ended = asyncio.ensure_future(tree.wait())
        while not ended.done():
            before = account.seconds() if account else 0.0
            ours = tree.cpu_seconds()
            seen.append((before, ours, account.seconds() if account else ours))
            await asyncio.sleep(0.05)
        assert ended.result() == 0

    tree = run(tmp_path, (load, *work), act, account=account)
    total_s = tree.cpu_seconds()
    true_s = account.seconds() if account else at_least_s
    assert total_s >= at_least_s
    assert abs(total_s - true_s) <= CLOSE * true_s + SLACK_S
    for before, ours, after in seen:
        assert (1 - CLOSE) * before - SLACK_S <= ours <= (1 + CLOSE) * after + SLACK_S
    assert [ours for _, ours, _ in seen] == sorted(ours for _, ours, _ in seen)


# The end


def test_daemons_and_double_forks_end(tmp_path: Path) -> None:
    script = "setsid sh -c 'trap \"\" TERM HUP; echo $$ >a; sleep 1000' & (sh -c 'echo $$ >b; sleep 1000' &)"

    async def act(tree: LinuxTree) -> None:
        pids = [await asyncio.to_thread(pid_in, tmp_path / name) for name in ("a", "b")]
        assert not any(map(has_ended, pids))

    run(tmp_path, ("/bin/sh", "-c", script + "; sleep 1000"), act)
    assert all(has_ended(int((tmp_path / name).read_text())) for name in ("a", "b"))


def test_what_outlives_the_program_ends_with_it(tmp_path: Path) -> None:
    async def act(tree: LinuxTree) -> None:
        assert await tree.wait() == 7

    run(
        tmp_path, ("/bin/sh", "-c", "setsid sh -c 'echo $$ >a; sleep 1000' & while [ ! -s a ]; do :; done; exit 7"), act
    )
    assert has_ended(int((tmp_path / "a").read_text()))


def test_suspended_processes_end(tmp_path: Path) -> None:
    async def act(tree: LinuxTree) -> None:
        await asyncio.to_thread(pid_in, tmp_path / "a")
        tree.suspend()

    run(tmp_path, ("/bin/sh", "-c", "echo $$ >a; sleep 1000"), act)
    assert has_ended(int((tmp_path / "a").read_text()))


def stands_still(keeper: int) -> bool:
    return all(member.state in b"TD" for member in descendants(keeper) if member.lives)


def nothing_new_comes(keeper: int) -> bool:
    """Suspend all that lives. On a host where processes always go away, a look may miss one that gets no processor."""
    if not signal_all(keeper, signal.SIGSTOP):
        return False
    seen = {member.pid for member in descendants(keeper) if member.lives}
    until(lambda: stands_still(keeper))  # who waits for a processor stops when he gets it
    return {member.pid for member in descendants(keeper) if member.lives} <= seen  # one may just have been ending


@pytest.mark.parametrize("suspended", [False, True])
def test_a_fork_bomb_ends(tmp_path: Path, load: str, suspended: bool) -> None:
    """One of the worst kind: nobody in it lives for long, or in the group of another."""

    async def go() -> None:
        tree = LinuxTree(replace(program(tmp_path, load, "bomb", "20"), priority=1))
        await tree.start()
        try:
            while not (tmp_path / "bomb").exists():
                await asyncio.sleep(0.01)
            keeper = tree._process
            assert keeper is not None
            if suspended:
                until(lambda: nothing_new_comes(keeper.pid))
        finally:
            await tree.end()

    asyncio.run(asyncio.wait_for(go(), 2 * AT_MOST_S))
    named = [one.info for one in psutil.process_iter(["name", "cwd"])]
    assert {"name": "host_load", "cwd": str(tmp_path)} not in named


# Whoever is killed

BRIDGE = """
import asyncio, sys
from pathlib import Path
from bridge.host.linux import LinuxTree
from bridge.host.program import Program

async def go():
    slot = Path(sys.argv[1])
    tree = LinuxTree(Program(name="app", argv=("/bin/sh", "-c", sys.argv[2]), slot=slot, cwd=slot))
    await tree.start()
    await tree.wait()

asyncio.run(go())
"""
SCRIPT = "setsid sh -c 'echo $$ >a; exec sleep 1000' & echo $$ >b; sleep 1000"


def start_bridge(slot: Path, repository: Path) -> subprocess.Popen[bytes]:
    slot.mkdir()
    return subprocess.Popen([sys.executable, "-c", BRIDGE, str(slot), SCRIPT], cwd=repository)


def test_a_bridge_that_is_killed_leaves_nothing(tmp_path: Path, repository: Path) -> None:
    """Children of its children used to live on: a death signal (PDEATHSIG) is not inherited."""
    slot = tmp_path / "slot"
    with start_bridge(slot, repository) as bridge:
        pids = [pid_in(slot / name) for name in ("a", "b")]
        assert not any(map(has_ended, pids))
        bridge.kill()
    until(lambda: all(map(has_ended, pids)))


def test_what_is_left_when_the_keeper_is_killed_too(tmp_path: Path, repository: Path) -> None:
    """The next start ends it: what has this slot's mark, and nothing else."""
    slot, other = tmp_path / "slot", tmp_path / "slot2"
    stranger = subprocess.Popen(["sleep", "1000"], env={MARK: mark("1.1", other)})
    try:
        with start_bridge(slot, repository) as bridge:
            pids = [pid_in(slot / name) for name in ("a", "b")]
            (keeper,) = psutil.Process(bridge.pid).children()
            keeper.suspend()
            bridge.kill()
            keeper.kill()
        until(lambda: has_ended(pids[1]))  # the program itself dies with the keeper
        assert not has_ended(pids[0])
        assert end_leftovers(slot) == []
        until(lambda: all(map(has_ended, pids)))
        assert stranger.poll() is None
        assert end_leftovers(other) == []
        assert stranger.wait() == -signal.SIGKILL
    finally:
        stranger.kill()
        stranger.wait()


def test_who_ends_what_is_left_does_not_end_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, mark("1.1", tmp_path))
    script = f"import pathlib, bridge.host.leftovers as left; left.end_leftovers(pathlib.Path({str(tmp_path)!r}))"
    subprocess.run(["/bin/sh", "-c", f'{sys.executable} -c "{script}"; exit $?'], check=True)


def test_a_keeper_that_is_killed_is_trouble_of_the_host(tmp_path: Path) -> None:
    async def act(tree: LinuxTree) -> None:
        for name in ("a", "b"):
            await asyncio.to_thread(pid_in, tmp_path / name)
        keeper = tree._process
        assert keeper is not None
        keeper.kill()
        with pytest.raises(HostError, match="the process that watched over app was killed"):
            await tree.wait()

    run(tmp_path, ("/bin/sh", "-c", SCRIPT), act)
    assert all(has_ended(int((tmp_path / name).read_text())) for name in ("a", "b"))


def test_who_waits_hears_of_an_end_from_outside(tmp_path: Path) -> None:
    async def act(tree: LinuxTree) -> None:
        assert tree.running
        waiting = asyncio.ensure_future(tree.wait())
        await tree.end()
        assert await waiting == -signal.SIGKILL and not tree.running

    run(tmp_path, ("/bin/sleep", "1000"), act)


def test_the_end_is_the_end(tmp_path: Path) -> None:
    """Every verb may be said again."""

    async def act(tree: LinuxTree) -> None:
        assert await tree.wait() == 0
        await tree.end()
        tree.suspend()
        tree.resume()
        tree.ask()
        assert tree.cpu_seconds() == tree.cpu_seconds() > 0

    run(tmp_path, ("/bin/true",), act)
