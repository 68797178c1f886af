"""The life of a program of this host: real ones, small ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bridge.errors import HostError, JobFileError
from bridge.host import beside as beside_module
from bridge.host.beside import Beside, beside
from bridge.host.life import HostLife
from bridge.host.program import Program
from bridge.host.said import Saving, end_of, fraction_in, fraction_of
from bridge.life.accounting import UNSPENT, Progress, Spent
from bridge.life.decide import End, Outcome
from bridge.life.tables import State

from ..patience import AT_MOST_S, has_ended


class Audience:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.reports: list[Progress] = []

    def runs_on(self, what: str) -> None:
        pass

    def state(self, state: State) -> None:
        self.states.append(state)

    def progress(self, progress: Progress) -> None:
        self.reports.append(progress)


async def become(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


class Lived:
    """One life and what is known of it."""

    def __init__(self, program: Program, *, spent: Spent = UNSPENT, use_tstp: bool = False) -> None:
        self.audience = Audience()
        self.saved: list[Progress] = []
        self.slot = program.slot
        self.life = HostLife(program, self.audience, spent=spent, saved=self.saved.append, use_tstp=use_tstp)

    async def until(self, condition: Callable[[], object]) -> None:
        await asyncio.wait_for(become(condition), AT_MOST_S)

    async def pid(self, name: str = "pid") -> int:
        """Return the number that the program writes into a file."""
        return await pid_in(self.slot / name)


def shell(slot: Path, script: str) -> Program:
    return Program(name="app", argv=("/bin/sh", "-c", script), slot=slot, cwd=slot)


def live(program: Program, act: Callable[[Lived], object] | None = None, **how: object) -> tuple[Lived, Outcome]:
    """Run a life to its end; `act` is what happens meanwhile, a coroutine function."""

    async def go() -> tuple[Lived, Outcome]:
        lived = Lived(program, **how)  # type: ignore[arg-type]
        running = asyncio.create_task(lived.life.run())
        try:
            if act is not None:
                await act(lived)  # type: ignore[misc]
            return lived, await running
        finally:
            lived.life.abort()
            with contextlib.suppress(Exception):
                await running

    return asyncio.run(asyncio.wait_for(go(), 2 * AT_MOST_S))


# How it ends


def test_success(tmp_path: Path) -> None:
    lived, outcome = live(shell(tmp_path, "echo done >out"))
    assert outcome == Outcome(End.SUCCESS, "finished")
    assert (tmp_path / "out").read_text() == "done\n"
    assert lived.audience.states == [State.RUNNING, State.ENDED]
    assert lived.life.results == [] and not lived.life.kept


def test_a_program_that_fails_is_an_error_whatever_its_status(tmp_path: Path) -> None:
    program = replace(shell(tmp_path, "echo why >&2; exit 3"), stderr=tmp_path / "err")
    _, outcome = live(program)
    assert outcome == Outcome(End.PROGRAM_FAILED, "the program app ended with status 3", "why", code=195)


def test_a_program_that_crashes(tmp_path: Path) -> None:
    _, outcome = live(shell(tmp_path, "kill -SEGV $$"))
    assert outcome == Outcome(End.PROGRAM_FAILED, "the program app was ended by SIGSEGV", code=195)


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "app").write_text("\0")
    (tmp_path / "app").chmod(0o755)
    _, outcome = live(Program(name="app", argv=(str(tmp_path / "app"),), slot=tmp_path, cwd=tmp_path))
    assert outcome.end is End.BRIDGE_FAILED
    assert isinstance(outcome.error, JobFileError), "trying again would not help"
    assert outcome.message.endswith(f"app cannot be started: {tmp_path}/app: Exec format error")


def test_an_output_that_cannot_be_opened(tmp_path: Path) -> None:
    _, outcome = live(replace(shell(tmp_path, "true"), stdout=tmp_path / "no" / "out"))
    assert isinstance(outcome.error, JobFileError), "trying again would not help"
    assert outcome.message.endswith(f"app cannot be started: {tmp_path}/no/out: No such file or directory")


def test_abort(tmp_path: Path) -> None:
    async def act(lived: Lived) -> None:
        await lived.pid()
        lived.life.abort()

    _, outcome = live(shell(tmp_path, "trap '' TERM; echo $$ >pid; while :; do sleep 1; done"), act)
    assert outcome == Outcome(End.ABORTED, "aborted")
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_quit_lets_a_program_save_what_it_has(tmp_path: Path) -> None:
    async def act(lived: Lived) -> None:
        await lived.pid()
        lived.life.quit()

    _, outcome = live(
        shell(tmp_path, "trap 'echo x >state; exit 0' TERM; echo $$ >pid; while :; do sleep 0.1; done"), act
    )
    assert outcome.end is End.INTERRUPTED
    assert (tmp_path / "state").exists()


def test_quit_of_a_program_that_will_not_end(tmp_path: Path) -> None:
    async def act(lived: Lived) -> None:
        await lived.pid()
        lived.life.hold()
        lived.life.quit()

    _, outcome = live(shell(tmp_path, "trap '' TERM; echo $$ >pid; while :; do sleep 1; done"), act)
    assert outcome.end is End.INTERRUPTED
    assert has_ended(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(("verb", "end"), [("quit", End.INTERRUPTED), ("abort", End.ABORTED)])
def test_before_anything_was_started(tmp_path: Path, verb: str, end: End) -> None:
    async def go() -> Outcome:
        lived = Lived(shell(tmp_path, "touch started"))
        getattr(lived.life, verb)()
        return await lived.life.run()

    assert asyncio.run(go()).end is end
    assert not (tmp_path / "started").exists()


def test_trouble_of_the_bridge(tmp_path: Path) -> None:
    async def act(lived: Lived) -> None:
        await lived.pid()
        lived.life.connect(False)
        lived.life.fail(HostError("the disk is full"))

    _, outcome = live(shell(tmp_path, "echo $$ >pid; sleep 1000"), act)
    assert outcome.end is End.BRIDGE_FAILED and outcome.message == "the disk is full"


def test_the_time_limit_is_success(tmp_path: Path) -> None:
    _, outcome = live(replace(shell(tmp_path, "echo $$ >pid; sleep 1000"), time_limit=1.5))
    assert outcome == Outcome(End.SUCCESS, "app was ended after its time limit of 1.5 seconds")
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_the_time_limit_stands_still_with_the_program(tmp_path: Path) -> None:
    async def act(lived: Lived) -> None:
        pid = await lived.pid()
        lived.life.hold()
        await lived.until(lambda: stands_still(pid))
        ran_s = lived.life.progress.run_seconds
        await asyncio.sleep(2.0)
        assert not has_ended(pid) and lived.life.progress.run_seconds == ran_s
        lived.life.abort()

    _, outcome = live(replace(shell(tmp_path, "echo $$ >pid; sleep 1000"), time_limit=60.0), act)
    assert outcome.end is End.ABORTED


# Standing still


def stands_still(*pids: int) -> bool:
    """A shell that waits for its child to become another program (vfork) cannot be stopped before that; it waits."""
    still = (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP)
    return all(psutil.Process(pid).status() in still for pid in pids)


def runs(*pids: int) -> bool:
    return all(psutil.Process(pid).status() == psutil.STATUS_SLEEPING for pid in pids)


FAMILY = (
    "setsid sh -c 'echo $$ >daemon; sleep 1000' & (sh -c 'echo $$ >orphan; sleep 1000' &); echo $$ >pid; sleep 1000"
)


@pytest.mark.parametrize("multi_process", [False, True])
def test_all_of_it_stands_still_and_runs_again(tmp_path: Path, multi_process: bool) -> None:
    """BOINC's wrapper stops the program alone without `<multi_process>`; its children go on taking the processor."""

    async def act(lived: Lived) -> None:
        pids = [await lived.pid(name) for name in ("pid", "daemon", "orphan")]
        for _ in range(2):
            lived.life.hold()
            lived.life.hold()
            lived.life.fear()
            await lived.until(lambda: stands_still(*pids))
            lived.life.release()
            assert stands_still(*pids), "the client is still silent"
            lived.life.hope()
            lived.life.hope()
            await lived.until(lambda: runs(*pids))
        lived.life.hold()
        lived.life.abort()

    live(replace(shell(tmp_path, FAMILY), multi_process=multi_process), act)
    assert all(has_ended(int((tmp_path / name).read_text())) for name in ("pid", "daemon", "orphan"))


def test_held_before_it_was_started(tmp_path: Path) -> None:
    async def go() -> None:
        lived = Lived(Program(name="app", argv=("/bin/sleep", "1000"), slot=tmp_path, cwd=tmp_path))
        lived.life.hold()
        running = asyncio.create_task(lived.life.run())
        await lived.until(lambda: lived.audience.states)
        program = next(child for child in psutil.Process().children(recursive=True) if child.name() == "sleep")
        await lived.until(lambda: stands_still(program.pid))
        lived.life.release()
        await lived.until(lambda: runs(program.pid))
        lived.life.quit()
        assert (await running).end is End.INTERRUPTED

    asyncio.run(asyncio.wait_for(go(), AT_MOST_S))


def test_sigtstp_can_be_prepared_for(tmp_path: Path) -> None:
    async def act(lived: Lived) -> None:
        pid = await lived.pid()
        lived.life.hold()
        await lived.until(lambda: (tmp_path / "told").exists())
        await lived.until(lambda: stands_still(pid))
        lived.life.release()
        await lived.until(lambda: runs(pid))
        lived.life.abort()

    script = "trap 'touch told; kill -STOP $$' TSTP; echo $$ >pid; while :; do sleep 0.05; done"
    live(shell(tmp_path, script), act, use_tstp=True)


@pytest.mark.parametrize("multi_process", [False, True])
def test_sigtstp_is_for_the_program_or_for_all_of_it(tmp_path: Path, multi_process: bool) -> None:
    async def act(lived: Lived) -> None:
        pid = await lived.pid()
        child = await lived.pid("child")
        lived.life.hold()
        await lived.until(lambda: stands_still(pid))
        if multi_process:
            await lived.until(lambda: stands_still(child))
        else:
            await lived.until(lambda: runs(child))
        lived.life.abort()

    script = "sleep 1000 & echo $! >child; echo $$ >pid; exec sleep 1000"
    live(replace(shell(tmp_path, script), multi_process=multi_process), act, use_tstp=True)


def test_sigtstp_stops_who_does_not_know_it(tmp_path: Path) -> None:
    """A program in a session of its own would not be stopped by it: nobody could continue it, thinks the kernel."""

    async def act(lived: Lived) -> None:
        pid = await lived.pid()
        lived.life.hold()
        await lived.until(lambda: stands_still(pid))
        lived.life.abort()

    live(shell(tmp_path, "echo $$ >pid; sleep 1000"), act, use_tstp=True)


# What it says


def test_what_was_spent_before_counts(tmp_path: Path) -> None:
    lived, _ = live(shell(tmp_path, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"), spent=Spent(100.0, 0.0))
    assert 100.05 < lived.life.progress.cpu_seconds < 120


def test_fraction_done(tmp_path: Path) -> None:
    file = tmp_path / "done"
    file.write_text("1.0\n")

    async def act(lived: Lived) -> None:
        await lived.pid()
        await lived.until(lambda: lived.life.progress.fraction_done == 0.25)
        (tmp_path / "go").touch()

    script = "echo $$ >pid; echo 0.25 >done; while [ ! -e go ]; do sleep 0.05; done; echo 0.75 >>done"
    lived, outcome = live(replace(shell(tmp_path, script), fraction=file), act)
    fractions = [report.fraction_done for report in lived.audience.reports]
    assert outcome.end is End.SUCCESS and 1.0 not in fractions, "it was an earlier start's"
    assert lived.life.progress.fraction_done == 0.75


def test_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.touch()

    async def act(lived: Lived) -> None:
        await lived.pid()
        seen = len(lived.audience.reports)
        await lived.until(lambda: len(lived.audience.reports) > seen)
        await asyncio.sleep(1.1)
        assert not lived.saved, "the first sight says nothing"
        os.utime(file, ns=(0, 1))
        await lived.until(lambda: lived.saved)
        os.utime(file, ns=(0, 2))
        await lived.until(lambda: len(lived.saved) == 2)
        lived.life.abort()

    lived, _ = live(replace(shell(tmp_path, "echo $$ >pid; while :; do :; done"), checkpoint=file), act)
    first, second = lived.saved
    assert first.checkpoint_cpu_seconds == first.cpu_seconds > 0
    assert second.cpu_seconds > first.cpu_seconds and second.checkpoints == 2
    assert lived.life.progress.checkpoint_cpu_seconds == second.cpu_seconds


def test_a_checkpoint_that_cannot_be_recorded_is_none(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.touch()

    def full(progress: Progress) -> None:
        (tmp_path / "tried").touch()
        raise OSError("no space left")

    async def act(lived: Lived) -> None:
        lived.life._saved = full
        pid = await lived.pid()
        for now in range(1, 1000):
            os.utime(file, ns=(0, now))
            if (tmp_path / "tried").exists():
                break
            await asyncio.sleep(0.1)
        assert not has_ended(pid) and lived.life.progress.checkpoint_cpu_seconds is None
        lived.life.abort()

    live(replace(shell(tmp_path, "echo $$ >pid; sleep 1000"), checkpoint=file), act)


@pytest.mark.parametrize(
    ("end", "fraction"),
    [
        (b"0.5", 0.5),
        (b"0.25\n0.5\n", 0.5),
        (b"0.5\nnot a number\n", 0.5),
        (b"0.5 of all\n\n", 0.5),
        (b"  1e-1\n", 0.1),
        (b".5", 0.5),
        (b"-3", 0.0),
        (b"7", 1.0),
        (b"1e999", 1.0),
        (b"nan\n", None),
        (b"", None),
        (b"\xff\0\n", None),
    ],
)
def test_the_last_number(end: bytes, fraction: float | None) -> None:
    assert fraction_in(end) == fraction


def test_only_the_end_is_read(tmp_path: Path) -> None:
    file = tmp_path / "done"
    with file.open("wb") as huge:
        huge.truncate(1 << 40)
        huge.seek(0, os.SEEK_END)
        huge.write(b"\n0.5\n")
    assert fraction_of(file) == 0.5 and len(end_of(file, 32)) == 32


@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing", "loop", "device"])
def test_files_that_are_none(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "done"
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "loop":
            file.symlink_to(file)
        case "device":
            file.symlink_to("/dev/zero")
    assert fraction_of(file) is None
    saving = Saving(file)
    assert not saving.seen() and not saving.seen()


# Streams, environment, priority


def test_streams_are_appended_to(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello\n")
    (tmp_path / "out").write_text("before\n")
    program = replace(
        shell(tmp_path, "cat; echo oops >&2"),
        stdin=tmp_path / "in",
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
    )
    live(program)
    assert (tmp_path / "out").read_text() == "before\nhello\n"
    assert (tmp_path / "err").read_text() == "oops\n"


def test_a_pipe_with_nobody_at_the_other_end_holds_nothing_up(tmp_path: Path) -> None:
    """A program whose streams are opened for ever could be neither quit nor aborted."""
    os.mkfifo(tmp_path / "pipe")
    _, outcome = live(replace(shell(tmp_path, "cat >out"), stdin=tmp_path / "pipe"))
    assert outcome.end is End.SUCCESS and (tmp_path / "out").read_bytes() == b""
    _, outcome = live(replace(shell(tmp_path, "true"), stdout=tmp_path / "pipe"))
    assert isinstance(outcome.error, JobFileError), "trying again would not help"
    assert outcome.message.endswith(f"app cannot be started: {tmp_path}/pipe: No such device or address")


def test_without_names_the_streams_are_the_bridges(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    live(shell(tmp_path, "cat; echo out; echo err >&2"))
    assert capfd.readouterr() == ("out\n", "err\n")


def test_an_environment_is_all_that_the_program_gets(tmp_path: Path) -> None:
    program = Program(name="env", argv=("/usr/bin/env",), slot=tmp_path, cwd=tmp_path, stdout=tmp_path / "out")
    live(replace(program, env=("A=1", "B=x=y")))
    lines = (tmp_path / "out").read_text().splitlines()
    assert [line for line in lines if not line.startswith("VMBRIDGE_TASK=")] == ["A=1", "B=x=y"]
    (tmp_path / "out").unlink()
    live(program)
    assert f"PATH={os.environ['PATH']}" in (tmp_path / "out").read_text().splitlines()


def test_no_descriptor_and_no_signal_is_passed_on(tmp_path: Path) -> None:
    script = "ls /proc/self/fd >fds; grep Sig[IB] /proc/self/status >signals"
    live(shell(tmp_path, script))
    assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"], "the third is that of ls"
    of_the_c_library = 3 << 31  # 32 and 33, which nobody can set
    masks = (int(mask, 16) for mask in (tmp_path / "signals").read_text().split()[1::2])
    assert {mask & ~of_the_c_library for mask in masks} == {0}


@pytest.mark.parametrize(("priority", "niceness"), [(1, 19), (2, 10)])
def test_priority(tmp_path: Path, priority: int, niceness: int) -> None:
    live(replace(shell(tmp_path, "nice >nice"), priority=priority))
    assert int((tmp_path / "nice").read_text()) == niceness


# Daemons and helpers


@asynccontextmanager
async def running(slot: Path, *scripts: str) -> AsyncIterator[Beside]:
    async with beside([shell(slot, script) for script in scripts]) as programs:
        yield programs


async def pid_in(file: Path) -> int:
    await asyncio.wait_for(become(lambda: file.exists() and file.read_text().endswith("\n")), AT_MOST_S)
    return int(file.read_text())


@pytest.mark.parametrize("trouble", [None, ValueError, asyncio.CancelledError])
def test_what_runs_beside_ends_whatever_happens(tmp_path: Path, trouble: type[BaseException] | None) -> None:
    async def go() -> None:
        with contextlib.suppress(ValueError, asyncio.CancelledError):
            async with running(tmp_path, "echo $$ >a; setsid sleep 1000", "trap '' TERM; echo $$ >b; sleep 1000"):
                for name in ("a", "b"):
                    assert not has_ended(await pid_in(tmp_path / name))
                if trouble is not None:
                    raise trouble

    asyncio.run(go())
    assert all(has_ended(int((tmp_path / name).read_text())) for name in ("a", "b"))


def test_it_stands_still_with_the_job(tmp_path: Path) -> None:
    async def go() -> None:
        async with running(tmp_path, "echo $$ >a; sleep 1000") as programs:
            pid = await pid_in(tmp_path / "a")
            programs.hold()
            programs.hold()
            await asyncio.wait_for(become(lambda: stands_still(pid)), AT_MOST_S)
            programs.release()
            await asyncio.wait_for(become(lambda: runs(pid)), AT_MOST_S)

    asyncio.run(go())


def test_one_that_cannot_be_started_ends_the_others(tmp_path: Path) -> None:
    async def go() -> None:
        missing = Program(name="missing", argv=("/nonexistent",), slot=tmp_path, cwd=tmp_path)
        async with beside([shell(tmp_path, "echo $$ >a; sleep 1000"), missing]):
            raise AssertionError("it was started")

    with pytest.raises(JobFileError, match="missing cannot be started: /nonexistent: No such file or directory"):
        asyncio.run(go())
    if (tmp_path / "a").exists() and (tmp_path / "a").read_text():
        assert has_ended(int((tmp_path / "a").read_text()))


def test_one_that_ends_by_itself_is_told_and_the_job_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        async with running(tmp_path, "exit 3"):
            told = "has ended by itself with status 3"
            await asyncio.wait_for(become(lambda: told in caplog.text), AT_MOST_S)

    asyncio.run(go())


def test_the_cpu_time_of_what_runs_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside_module, "CPU_EVERY_S", 0.0)

    async def go() -> None:
        async with running(tmp_path, "while :; do :; done", "while :; do :; done") as programs:
            await asyncio.wait_for(become(lambda: programs.cpu_seconds() > 0.2), AT_MOST_S)

    asyncio.run(go())
