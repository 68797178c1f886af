"""A program on Windows: in a job object, which holds all that it starts, counts it and ends it.

The job is closed when the bridge ends, in whatever way, and the kernel ends what is in it then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from logging import getLogger
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import CommandFailed, HostError
from .leftovers import MARK, mark

if TYPE_CHECKING:
    from .program import Program

logger = getLogger(__name__)

PRIORITY_CLASS = {1: 0x40, 2: 0x4000, 3: 0x20, 4: 0x8000, 5: 0x80}
"""idle, below normal, normal, above normal, high"""

_LOOKS = 100
_ENDED_WITHIN_S = 20.0


class Calls(Protocol):
    """What is asked of Windows. Handles are numbers; an `OSError` is raised for what fails."""

    def create_job(self) -> int:
        """Make a job object that ends all that is in it when it is closed."""

    def start(self, job: int, program: Program, env: dict[str, str] | None, output: int | None) -> int:
        """Start a program inside the job; return its handle. It must not run before it is in it."""

    def pids(self, job: int) -> list[int]:
        """Return the numbers of the processes in the job."""

    def suspend(self, pid: int) -> None:
        """Suspend all threads of a process. Windows counts: it must be resumed as often."""

    def resume(self, pid: int) -> None:
        """Resume all threads of a process."""

    def cpu_seconds(self, job: int) -> float:
        """Return the CPU time of all that is and was in the job."""

    def terminate(self, job: int) -> None:
        """End all that is in the job."""

    def wait(self, process: int) -> int:
        """Wait for a process; return its exit code."""

    def close(self, handle: int) -> None:
        """Let go of a handle."""


class WindowsTree:
    """A program in a job object of its own."""

    def __init__(self, program: Program, calls: Calls, *, output: int | None = None) -> None:
        self._program = program
        self._calls = calls
        self._output = output
        self._job: int | None = None
        self._ended: asyncio.Task[int] | None = None
        self._suspended: set[int] = set()
        self._cpu_seconds = 0.0

    @property
    def running(self) -> bool:
        return self._ended is not None and not self._ended.done()

    async def start(self) -> None:
        program = self._program
        env = dict(os.environ) if program.env is None else dict(setting.split("=", 1) for setting in program.env)
        env[MARK] = mark(str(os.getpid()), program.slot)
        try:
            self._job = self._calls.create_job()
            process = self._calls.start(self._job, program, env, self._output)
        except OSError as error:
            if self._job is not None:
                self._calls.close(self._job)
                self._job = None
            raise CommandFailed(f"{program.name} cannot be started: {error.strerror or error}") from error
        self._ended = asyncio.create_task(asyncio.to_thread(self._calls.wait, process))

    def suspend(self) -> None:
        for _ in range(_LOOKS):
            new = [pid for pid in self._pids() if pid not in self._suspended]
            if not new:
                return
            for pid in new:
                self._suspended.add(pid)
                with contextlib.suppress(OSError):
                    self._calls.suspend(pid)
        logger.warning("%s starts programs faster than they can be suspended", self._program.name)

    def resume(self) -> None:
        for pid in self._suspended.intersection(self._pids()):
            with contextlib.suppress(OSError):
                self._calls.resume(pid)
        self._suspended.clear()

    def ask(self) -> None:
        """Windows has no signal by which a program without a window is asked to end."""

    def cpu_seconds(self) -> float:
        if self._job is not None:
            with contextlib.suppress(OSError):
                self._cpu_seconds = max(self._cpu_seconds, self._calls.cpu_seconds(self._job))
        return self._cpu_seconds

    async def wait(self) -> int:
        assert self._ended is not None, "start() comes first"
        return await asyncio.shield(self._ended)

    async def end(self) -> None:
        if self._job is None or self._ended is None:
            return
        job, self_ended = self._job, self._ended
        self._calls.terminate(job)
        try:
            await asyncio.wait_for(asyncio.shield(self_ended), _ENDED_WITHIN_S)
        except asyncio.TimeoutError:
            raise HostError(f"{self._program.name} was terminated and has not ended") from None
        self.cpu_seconds()
        self._job = None
        self._calls.close(job)

    def _pids(self) -> list[int]:
        if self._job is None:
            return []
        try:
            return self._calls.pids(self._job)
        except OSError:
            return []


if sys.platform == "win32":  # never run so far (docs/platforms.md)
    import ctypes
    from ctypes import wintypes

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _ntdll = ctypes.WinDLL("ntdll")

    _CREATE_SUSPENDED = 0x4
    _CREATE_NO_WINDOW = 0x08000000
    _BASIC_ACCOUNTING, _PROCESS_IDS, _EXTENDED_LIMITS = 1, 3, 9
    _KILL_ON_JOB_CLOSE = 0x2000
    _LIMITS_SIZE, _LIMIT_FLAGS_AT = (144, 16) if ctypes.sizeof(ctypes.c_void_p) == 8 else (112, 16)
    _PROCESS_SUSPEND_RESUME = 0x0800
    _MAX_PIDS = 4096

    class KernelCalls:
        """Windows itself."""

        def create_job(self) -> int:
            job = _true(_kernel32.CreateJobObjectW(None, None))
            limits = bytearray(_LIMITS_SIZE)
            limits[_LIMIT_FLAGS_AT : _LIMIT_FLAGS_AT + 4] = _KILL_ON_JOB_CLOSE.to_bytes(4, "little")
            given = (ctypes.c_char * len(limits)).from_buffer(limits)
            _true(_kernel32.SetInformationJobObject(wintypes.HANDLE(job), _EXTENDED_LIMITS, given, len(limits)))
            return int(job)

        def start(self, job: int, program: Program, env: dict[str, str] | None, output: int | None) -> int:
            with contextlib.ExitStack() as files:
                streams: list[Any] = [
                    output if file is None else files.enter_context(open(file, "ab"))
                    for file in (program.stdout or program.stderr, program.stderr)
                ]
                priority = 0 if program.priority is None else PRIORITY_CLASS[program.priority]
                started = subprocess.Popen(
                    program.argv,
                    cwd=program.cwd,
                    env=env,
                    stdin=files.enter_context(open(os.devnull if program.stdin is None else program.stdin, "rb")),
                    stdout=streams[0],
                    stderr=streams[1],
                    creationflags=_CREATE_SUSPENDED | _CREATE_NO_WINDOW | priority,
                )
            self._popen, handle = started, int(vars(started)["_handle"])  # which has no public name
            try:
                _true(_kernel32.AssignProcessToJobObject(wintypes.HANDLE(job), wintypes.HANDLE(handle)))
                self.resume(self._popen.pid)
            except OSError:
                self._popen.kill()
                raise
            return handle

        def pids(self, job: int) -> list[int]:
            data = (ctypes.c_size_t * (1 + _MAX_PIDS))()  # two DWORDs with the numbers of entries come first
            size = ctypes.sizeof(data)
            _true(_kernel32.QueryInformationJobObject(wintypes.HANDLE(job), _PROCESS_IDS, data, size, None))
            count = int.from_bytes(bytes(data)[4:8], "little")
            first = 8 // ctypes.sizeof(ctypes.c_size_t)
            return list(data[first : first + count])

        def suspend(self, pid: int) -> None:
            self._with_process(pid, _ntdll.NtSuspendProcess)

        def resume(self, pid: int) -> None:
            self._with_process(pid, _ntdll.NtResumeProcess)

        def cpu_seconds(self, job: int) -> float:
            data = (ctypes.c_longlong * 6)()  # user and kernel time come first, in 100 ns
            size = ctypes.sizeof(data)
            _true(_kernel32.QueryInformationJobObject(wintypes.HANDLE(job), _BASIC_ACCOUNTING, data, size, None))
            return (data[0] + data[1]) / 1e7

        def terminate(self, job: int) -> None:
            _true(_kernel32.TerminateJobObject(wintypes.HANDLE(job), 1))

        def wait(self, process: int) -> int:
            return self._popen.wait()

        def close(self, handle: int) -> None:
            _kernel32.CloseHandle(wintypes.HANDLE(handle))

        def _with_process(self, pid: int, call: Any) -> None:
            process = _true(_kernel32.OpenProcess(_PROCESS_SUSPEND_RESUME, False, pid))
            try:
                if call(wintypes.HANDLE(process)) != 0:
                    raise OSError(f"process {pid} cannot be suspended or resumed")
            finally:
                self.close(process)

    def _true(result: Any) -> Any:
        if not result:
            raise ctypes.WinError(ctypes.get_last_error())
        return result
