"""A machine's process: started so that it cannot outlive the bridge, its output kept to a bounded tail.

Programs that may start others are run by `bridge/host/`, which follows those too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from logging import getLogger
from typing import cast

import psutil

from ..errors import CommandFailed
from ..tail import Tail

logger = getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_STOPPED_WITHIN_S = 30.0
_LAST_WORDS_S = 0.5
_BRIEFLY_S = 60.0
"""On a busy host a process at the lowest priority has a two-hundredth of a processor: what takes 0.1 s takes 20 s."""


class Child:
    """One child process with the end of what it printed and its CPU time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tail = Tail()
        self._exit: asyncio.Future[int] | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._process: psutil.Process | None = None
        self._cpu_seconds = 0.0

    async def start(
        self,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        env: dict[str, str],
        largest_file: int | None = None,
    ) -> None:
        """Start `command` in a session of its own, without standard input, with only these descriptors and `env`.

        Writing beyond `largest_file` bytes of a file is an error for it (EFBIG), and not its death.

        Must be called in the main thread: the kernel ends the child when the *thread* that made it ends.

        :raise CommandFailed: it could not be started at all.
        """
        logger.info("starting %s", shlex.join(command))
        loop = asyncio.get_running_loop()
        self._exit = loop.create_future()
        try:
            transport, _ = await loop.subprocess_exec(
                lambda: _Output(self._tail.data_received, self._ended),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=pass_fds,
                env=env,
                start_new_session=True,
                preexec_fn=_before_exec(os.getpid(), largest_file),
            )
        except OSError as error:
            raise CommandFailed(f"{command[0]} cannot be started: {error.strerror}") from error
        self._transport = transport
        with contextlib.suppress(psutil.Error):
            self._process = psutil.Process(transport.get_pid())

    @property
    def running(self) -> bool:
        """The process was started and has not ended."""
        return self._transport is not None and self._exit is not None and not self._exit.done()

    @property
    def tail(self) -> str:
        """The end of its standard output and error, for people."""
        return self._tail.text

    async def wait(self) -> int:
        """Return the exit status when the process has ended; minus the number of a signal that ended it."""
        assert self._exit is not None, "wait() before start()"
        return await asyncio.shield(self._exit)

    async def kill(self) -> None:
        """End the process and all that descends from it; returns when the process is gone.

        :raise CommandFailed: the kernel cannot end it, because it waits for a disk, say.
        """
        if self._transport is None:
            return
        self.cpu_seconds()
        self.signal(signal.SIGKILL)
        try:
            await asyncio.wait_for(self.wait(), _STOPPED_WITHIN_S)
        except asyncio.TimeoutError:
            raise CommandFailed(f"{self._name} was killed and has not ended in {_STOPPED_WITHIN_S:g} seconds") from None
        self._transport.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that descends from it; nothing happens if it has ended."""
        if self._process is None or not self.running:
            return
        with contextlib.suppress(psutil.Error):
            for process in [*self._process.children(recursive=True), self._process]:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)

    def cpu_seconds(self) -> float:
        """Return the CPU time so far, user and system, of the process with its threads."""
        if self._process is not None and self.running:
            with contextlib.suppress(psutil.Error):
                self._cpu_seconds = max(self._cpu_seconds, own_cpu(self._process))
        return self._cpu_seconds

    def _ended(self) -> None:
        assert self._transport is not None and self._exit is not None
        if self._exit.done():
            return
        status = self._transport.get_returncode()
        logger.info("%s has ended with status %s", self._name, status)
        self._exit.set_result(0 if status is None else status)


def own_cpu(process: psutil.Process) -> float:
    """Return the CPU time so far, user and system, of a process with its threads, in seconds."""
    if sys.platform == "linux":
        # The process' own clock (clock_getcpuclockid(3)): one call instead of thirteen, and in nanoseconds.
        try:
            return time.clock_gettime((~process.pid << 3) | 2)
        except OSError:
            return 0.0
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


class _Output(asyncio.SubprocessProtocol):
    """Hands what the process prints, and its end, to the `Child`."""

    def __init__(self, hear: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._hear = hear
        self._ended = ended

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        self._hear(cast(bytes, data))

    def process_exited(self) -> None:
        # The last output may still be in the pipe. A descendant may hold the pipe open for ever, so wait, but not long.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._ended)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


def _before_exec(parent: int, largest_file: int | None) -> Callable[[], None] | None:
    """Return what the child does before exec: it sees to it that the kernel kills it when the bridge ends, in whatever
    way, and gives itself its limit.

    If the bridge died before the request was made, the child has another parent already and must go by itself.
    A function between fork and exec is the only place that closes this gap without a helper program; it takes no lock
    and imports nothing.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            _, highest = resource.getrlimit(resource.RLIMIT_FSIZE)
            limit = largest_file if highest == resource.RLIM_INFINITY else min(largest_file, highest)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return before_exec


class NotEnded(CommandFailed):
    """A program should have ended by itself, and has not."""


async def run_briefly(
    command: Sequence[str], env: Mapping[str, str] | None = None, within_s: float = _BRIEFLY_S
) -> str:
    """Run a program that ends by itself, with `env` added to its environment, and return what it printed.

    :raise CommandFailed: it failed; the message holds the end of what it said.
    :raise NotEnded: it did not end in this time.
    """
    name = os.path.basename(command[0])
    child = Child(name)
    try:
        await child.start(command, env=clean_environment(**(env or {})))
        status = await asyncio.wait_for(child.wait(), within_s)
    except asyncio.TimeoutError:
        raise NotEnded(f"{shlex.join(command)} has not ended in {within_s:g} seconds") from None
    finally:
        await child.kill()
    if status:
        raise CommandFailed(f"{shlex.join(command)} ended with status {status}: {child.tail.strip()[-300:]}")
    return child.tail


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment for a machine's process: short, and without what the client or a user set for others.

    The BOINC client puts `.` and its project folder into LD_LIBRARY_PATH, which breaks system programs.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {"PATH": os.defpath, **kept, **more}
