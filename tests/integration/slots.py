"""`vmbridge-app` in a slot of the stand-in for the client."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from ..patience import AT_MOST_S, until
from ..standin import StandIn
from ..standin.client import FINISH_FILE, TEMPORARY_EXIT_FILE

PROGRAM = Path(sys.executable).with_name("vmbridge-app")
"""As pip makes it for development. The bundle that a project ships has tests of its own."""


class Slot(StandIn):
    """A client with one job for `vmbridge-app`: a worker script, job file, inputs and outputs behind links."""

    def __init__(
        self,
        path: Path,
        script: str = "true",
        elements: str = "",
        *,
        hypervisor: str = "local",
        image: Path | str = "none",
        **options: Any,
    ) -> None:
        """`elements` stand in the task of the job file. `WAIT` in a script waits for `go`, without a machine."""
        # The client grants a minute, but this machine may be busier than a volunteer's.
        super().__init__(path, killed_after_s=AT_MOST_S, **options)
        self.hypervisor = hypervisor
        self._go = self.directory.path / "go"
        self.app = self.directory.program(PROGRAM, "vmbridge_1")
        wait = f"until [ -e {self._go} ]; do sleep 0.1; done"
        self.directory.add("worker", f"#!/bin/sh\n{script.replace('WAIT', wait)}\n")
        self.job_file = self.directory.add(
            "job.xml",
            "<job_desc><task>\n<virtualmachine>test</virtualmachine>\n"
            f"<image>{image}</image>\n<application>worker</application>\n{elements}\n</task></job_desc>\n",
        )
        self.names = set(os.listdir(self.slot))

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the application; more `words` follow those that name the hypervisor."""
        self.start(self.app, "--hypervisor", self.hypervisor, *words, environment=environment)

    def until_told(self, text: str) -> None:
        """Wait until standard error holds `text`."""
        self.until(lambda: text in self.stderr(), repr(text))

    def until_running(self) -> None:
        """Wait until the guest has spoken."""
        self.until_told("-> running")

    def go(self) -> None:
        """Let a script go on that waits for it."""
        self._go.touch()

    def until_nobody(self) -> None:
        """Wait until no process works for the slot any more; the kernel ends a machine a moment after its bridge."""
        until(lambda: not self.others(), lambda: str(self.others()))

    def machine(self) -> psutil.Process:
        """The process that the application has made: QEMU, or the agent that stands for a machine, below its keeper."""
        child = self._children()[0]
        return child.children()[0] if self.hypervisor == "local" else child

    def qemu(self) -> list[psutil.Process]:
        """The machine that runs the job, none of those that only try whether machines can run."""
        return self._children(lambda process: any("local,id=" in word for word in process.cmdline()))

    def _children(self, wanted: Callable[[psutil.Process], bool] = lambda process: True) -> list[psutil.Process]:
        found = []
        for process in self.others():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end while it is looked at
                if process.ppid() == self.pid and wanted(process):
                    found.append(process)
        return found

    @property
    def pid(self) -> int:
        """The application's process."""
        assert self.process is not None
        return self.process.pid

    def left(self) -> set[str]:
        """What the application left in the slot, without the files by which the client and the next start are told."""
        told = {"init_data.xml", "boinc_mmap_file", "stderr.txt", FINISH_FILE, TEMPORARY_EXIT_FILE, ".vmbridge.home"}
        return set(os.listdir(self.slot)) - self.names - told


def descriptors(process: psutil.Process) -> set[tuple[int, int]]:
    """Return which files a process has open, as device and inode."""
    found = set()
    folder = Path(f"/proc/{process.pid}/fd")
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            status = (folder / fd).stat()
            found.add((status.st_dev, status.st_ino))
    return found


MakeSlot = Callable[..., Slot]
