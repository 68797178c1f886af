"""Try an image: start a machine from it, wait for its guest, let it run a program that does nothing."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import GuestError
from ..job import Job, MachineTask
from ..life.accounting import Progress
from ..life.decide import End
from ..life.tables import State
from ..run import run_job

MEMORY_MB = 256


@dataclass(slots=True)
class Trial:
    """How it went: what ran the machine, and how many seconds passed from its start to the guest's first `ready`."""

    hypervisor: str = ""
    seconds: float = 0.0
    _started: float = field(default=0.0, repr=False)

    def runs_on(self, what: str) -> None:
        """Note what runs the machine."""
        self.hypervisor = what

    def state(self, state: State) -> None:
        """Note when the machine starts, and when its guest is there."""
        if state is State.BOOTING:
            self._started = time.monotonic()
        elif state is State.RUNNING:
            self.seconds = time.monotonic() - self._started

    def progress(self, progress: Progress) -> None:
        """Nothing is expected."""


def try_image(image: Path) -> Trial:
    """Start a machine from the image in the folder `image`, and end it.

    :raise GuestError: the guest did not come up, or could not run a program; the message holds what it said last.
    :raise BridgeError: it could not begin.
    """
    trial = Trial()
    with tempfile.TemporaryDirectory(prefix="vmbridge-") as folder:
        Path(folder, "nothing").write_text("#!/bin/sh\nexit 0\n")
        file = Path(folder, "job.xml")
        task = MachineTask(file, "trial", image.absolute(), "nothing", memory_mb=MEMORY_MB)
        job = Job(file, (task,))
        outcome = asyncio.run(run_job(job, trial)).outcome
    if outcome.end is not End.SUCCESS:
        raise GuestError(f"{outcome.message}\n{outcome.details}".strip())
    return trial
