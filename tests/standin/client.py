"""The client's part while a job runs: start the program in the slot, poll once a second, record every message.

The client itself is played by a sleeping process, whose pid `init_data.xml` tells and whose process group the program
shares, as it shares the client's: a program that kills by process group or outlives its client is found out, and
nothing happens to the tests.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import psutil

from ..patience import AT_MOST_S
from .conclusion import Conclusion, End, TaskState, conclude
from .data_directory import INIT_DATA, OLD, DataDirectory, Version
from .memory import (
    APP_STATUS,
    CONTROL,
    GRAPHICS_REPLY,
    HEARTBEAT,
    TRICKLE_DOWN,
    TRICKLE_UP,
    Kind,
    Memory,
    file_memory,
    ftok,
    system_v_memory,
)
from .task import Task, other_pid, take_status

POLL_EVERY_S = 1.0
KILLED_AFTER_S = 60.0
"""So long may a program take to obey `<quit/>` or `<abort/>`."""

QUEUED_AT_MOST_S = 180.0
"""A program whose second order waits so long is killed."""

FINISH_FILE = "boinc_finish_called"
TEMPORARY_EXIT_FILE = "boinc_temporary_exit"
STDERR_FILE = "stderr.txt"

Self = TypeVar("Self", bound="StandIn")

_OPPOSITE = {"suspend": "resume", "resume": "suspend"}
_FROM_APPLICATION = (APP_STATUS, TRICKLE_UP, GRAPHICS_REPLY)


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the application, and when it was taken out (time.monotonic_ns)."""

    at_ns: int
    channel: int
    text: str


@dataclass(slots=True)
class Sent:
    """An order, when it was put in, and when it was first seen that the application had taken it."""

    order: str
    at_ns: int
    read_ns: int | None = None


class StandIn:
    """A client with one job. Leaving the `with` block ends every process that is left.

    `drain_every_s` is how often messages are taken out: 1.0 is the real client's habit, and anything smaller is there
    to find out when they come. It begins with that `first_poll_s` after the start. A program that has not obeyed a
    `quit` or `abort` is killed after `killed_after_s`.
    `wu_cpu_time` is the CPU time at the last checkpoint of earlier starts; `init_data` are values for other tags of
    `init_data.xml`.
    """

    def __init__(
        self,
        path: Path,
        *,
        version: Version = OLD,
        kind: Kind = Kind.FILE,
        drain_every_s: float = 0.01,
        first_poll_s: float = 0.0,
        killed_after_s: float = KILLED_AFTER_S,
        wu_cpu_time: float = 0.0,
        **init_data: object,
    ) -> None:
        self.directory = DataDirectory(path)
        self.slot = self.directory.slot
        self.version = version
        self.task = Task(wu_cpu_time, wu_cpu_time)
        self.state = TaskState.EXECUTING
        self.premature_exits = 0
        self.heartbeat = "<heartbeat/>"
        self.beating = True
        self.received: list[Received] = []
        self.sent: list[Sent] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.started_ns = 0
        self._kind = kind
        self._drain_every_s = drain_every_s
        self._first_poll_s = first_poll_s
        self._killed_after_s = killed_after_s
        self._init_data = init_data
        self._queue: list[tuple[str, float]] = []
        self._asked_at = 0.0
        self._crashed = False
        self._broken_rule: BaseException | None = None
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._left = contextlib.ExitStack()
        self._memory: Memory | None = None
        self._thread: threading.Thread | None = None
        self._clock = mmap.mmap(-1, 8)

    def __enter__(self: Self) -> Self:
        self.body = subprocess.Popen(["sleep", "3600"], preexec_fn=os.setpgrp)
        self._left.callback(self.kill_client)
        # What a client has open: its lock file, its port, its log. It does not close them for the application.
        self.inherited = [
            os.open(self.directory.path / "lockfile", os.O_RDWR | os.O_CREAT),
            os.open(self.directory.path / "time_stats_log", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            socket.socket().detach(),
        ]
        for fd in self.inherited:
            self._left.callback(os.close, fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop_thread()
        with self._left:
            for process in self._everybody():
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if self.process is not None:
                self.process.kill()
                self.process.wait()
        if kind is None:
            self._check()

    # The process

    def start(
        self, program: str, *words: str, nice: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start `program`, a path relative to the slot, as `DataDirectory.program` returned it.

        It gets a new `init_data.xml` and an empty memory, and the CPU time of its last checkpoint to begin with.
        `environment` is the client's own, if not that of the tests.
        """
        assert self.process is None or self.process.poll() is not None, "one at a time"
        self._stop_thread()
        (self.slot / TEMPORARY_EXIT_FILE).unlink(missing_ok=True)
        self.task = Task(self.task.checkpoint_cpu_time, self.task.checkpoint_cpu_time, checkpoints=0)
        self.state = TaskState.EXECUTING
        self._queue.clear()
        self._make_memory()
        with (self.slot / STDERR_FILE).open("ab") as stderr:
            self.process = subprocess.Popen(
                [program, *words],
                cwd=self.slot,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=self.inherited,
                env={
                    **(os.environ if environment is None else environment),
                    "LD_LIBRARY_PATH": self.directory.library_path(),
                },
                preexec_fn=_before_exec(self.body.pid, nice, self._clock),
            )
        self.started_ns = int.from_bytes(self._clock[:], "little")
        self._stopping.clear()
        self._thread = threading.Thread(target=self._serve, name="stand-in client", daemon=True)
        self._thread.start()

    def _make_memory(self) -> None:
        """Give the process a memory and tell it where it is."""
        if self._memory is None and self._kind is Kind.FILE:
            self._memory = self._left.enter_context(file_memory(self.slot))
            self._init_data.setdefault("shm_key", -1)
        elif self._memory is None:
            (self.slot / INIT_DATA).touch()
            for key in itertools.count(ftok(self.slot / INIT_DATA)):
                with contextlib.suppress(FileExistsError):
                    self._memory = self._left.enter_context(system_v_memory(key))
                    self._init_data["shm_key"] = key
                    break
        assert self._memory is not None
        self._memory.clear()
        self.rewrite_init_data()

    def rewrite_init_data(self, **values: object) -> None:
        """Delete the file and write it anew, with these values from now on."""
        self._init_data.update(values)
        mine = {"client_pid": self.body.pid, "wu_cpu_time": self.task.checkpoint_cpu_time}
        self.directory.write_init_data(self.version, **mine | self._init_data)

    def wait(self, timeout: float = AT_MOST_S) -> Conclusion:
        """Return what the client concludes when the process has ended.

        :raise TimeoutError: it has not, in this many seconds.
        """
        assert self.process is not None
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not ended in {timeout:g} s; {STDERR_FILE}:\n{self.stderr()}") from None
        self._stop_thread()
        self._drain()  # the last messages are read before anything is judged
        self._check()
        assert self._crashed or self.body.poll() is None, "the process has killed its client"
        concluded = conclude(
            status,
            finish_file=self.read(FINISH_FILE),
            temporary_exit=self.read(TEMPORARY_EXIT_FILE),
            state=self.state,
            premature_exits=self.premature_exits,
        )
        if concluded.end in (End.PREMATURE_EXIT, End.TEMPORARY_EXIT):
            self.premature_exits += 1
        return concluded

    @property
    def status(self) -> int:
        """The exit status of the process, or minus the signal that killed it."""
        assert self.process is not None and self.process.returncode is not None
        return self.process.returncode

    def read(self, name: str) -> str | None:
        """Return what is in a file of the slot; None if there is none."""
        try:
            return (self.slot / name).read_text(errors="replace")
        except FileNotFoundError:
            return None

    def stderr(self) -> str:
        """Return what the process and its predecessors wrote to standard error."""
        return self.read(STDERR_FILE) or ""

    def kill_client(self) -> None:
        """Let the client crash: no more heartbeats, nobody reads, and its pid is gone."""
        self._crashed = True
        self._stop_thread()
        self.body.kill()
        self.body.wait()

    def others(self) -> list[psutil.Process]:
        """All processes that work for the slot, the one that was started itself not among them."""
        mine = () if self.process is None else (self.process.pid,)
        return [process for process in self._everybody() if process.pid not in mine]

    def _everybody(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _works_in(process, str(self.directory.path))]

    # Messages

    def statuses(self) -> list[Received]:
        """All `app_status` messages so far, the oldest first."""
        return [message for message in list(self.received) if message.channel == APP_STATUS]

    def order(self, order: str) -> None:
        """Send `suspend`, `resume`, `quit`, `abort` or `reread_app_info`, as soon as the channel is free.

        An order that still waits is taken back by its opposite, and neither is sent.
        """
        self._check()
        assert self.process is not None
        with self._lock:
            if order in ("quit", "abort"):
                self.state = TaskState.QUIT_PENDING if order == "quit" else TaskState.ABORT_PENDING
                self._asked_at = time.monotonic()
            waiting = [queued for queued, _ in self._queue]
            if _OPPOSITE.get(order) in waiting:
                del self._queue[waiting.index(_OPPOSITE[order])]
            else:
                self._queue.append((order, time.monotonic()))
                self._send_queued()

    def _send_queued(self) -> None:
        assert self._memory is not None
        self._see_read()
        while self._queue and self._memory.send(CONTROL, f"<{self._queue[0][0]}/>"):
            self.sent.append(Sent(self._queue.pop(0)[0], time.monotonic_ns()))

    def _serve(self) -> None:
        poll_at = drain_at = time.monotonic() + self._first_poll_s
        try:
            while not self._stopping.is_set():
                now = time.monotonic()
                if now >= poll_at:
                    poll_at += POLL_EVERY_S
                    self._poll(now)
                if now >= drain_at:
                    drain_at = max(now, drain_at + self._drain_every_s)
                    self._drain()
                time.sleep(max(0.0, min(poll_at, drain_at) - time.monotonic()))
        except BaseException as error:
            self._broken_rule = error

    def _poll(self, now: float) -> None:
        """Do what the client does once a second, but for reading."""
        assert self._memory is not None and self.process is not None
        if self.beating:
            self._memory.send(HEARTBEAT, self.heartbeat)
        with self._lock:
            self._send_queued()
            assert not self._queue or now - self._queue[0][1] < QUEUED_AT_MOST_S, "the control channel is not read"
        if self.state is not TaskState.EXECUTING and now - self._asked_at > self._killed_after_s:
            self.process.kill()
            raise AssertionError(f"{self._killed_after_s:g} s after the order ({self.state.value}) it was still there")

    def _drain(self) -> None:
        assert self._memory is not None
        self._see_read()
        for channel in _FROM_APPLICATION:
            if (text := self._memory.receive(channel)) is not None:
                self.received.append(Received(time.monotonic_ns(), channel, text))
                if channel == APP_STATUS:
                    self.task = take_status(self.task, text, version=self.version[:2])
                    assert other_pid(text) != self.body.pid

    def _see_read(self) -> None:
        assert self._memory is not None
        with self._lock:
            if self.sent and self.sent[-1].read_ns is None and not self._memory.full(CONTROL):
                self.sent[-1].read_ns = time.monotonic_ns()

    def tell_trickle_down(self) -> None:
        """Say that there is a file `trickle_down_<time>`."""
        assert self._memory is not None
        self._memory.send(TRICKLE_DOWN, "<have_trickle_down/>\n")

    def until(self, condition: Callable[[], object], what: str = "it", timeout: float = AT_MOST_S) -> None:
        """Wait until `condition` holds, while the process runs.

        :raise AssertionError: the process ended, or it takes longer than `timeout` seconds.
        """
        assert self.process is not None
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None or time.monotonic() > deadline
            if condition():
                return
            self._check()
            assert not ended, f"{what} has not happened; status {self.process.returncode}; stderr:\n{self.stderr()}"
            time.sleep(0.01)

    def _stop_thread(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _check(self) -> None:
        """:raise AssertionError: the application has broken a rule."""
        if self._broken_rule is not None:
            raise AssertionError(f"{self._broken_rule}") from self._broken_rule


def _before_exec(group: int, nice: int | None, clock: mmap.mmap) -> Callable[[], None]:
    """Return what the client's child does between fork and exec; the last thing is to note the time."""

    def prepare() -> None:
        os.setpgid(0, group)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if nice is not None:
            os.nice(nice)
        clock[:] = time.monotonic_ns().to_bytes(8, "little")

    return prepare


def _works_in(process: psutil.Process, path: str) -> bool:
    def words() -> Iterator[str]:
        with contextlib.suppress(psutil.Error):
            yield from process.cmdline()
        with contextlib.suppress(psutil.Error):
            yield process.cwd()

    return process.pid != os.getpid() and any(path in word for word in words())
