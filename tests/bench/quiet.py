"""What the bridge costs its host while nothing happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from protocol.layout import STATUS, Share

from .figures import Figure
from .scratch import IMAGE, REPOSITORY, scratch
from .usage import watch

WINDOW_S = 10.0
WINDOWS = 3
SETTLE_S = 5.0
WITHIN_S = 60.0

_VMBRIDGE = (sys.executable, "-c", "from bridge.cli import main; main()")
_PROGRAM = "#!/bin/sh\nexec sleep 1000\n"
_JOB = """\
<job_desc><task>
  <virtualmachine>bench</virtualmachine><image>{image}</image><application>worker</application>
</task></job_desc>
"""


def measure() -> list[Figure]:
    """`vmbridge run` in steady state, without a terminal or a client, while `sleep` runs in a guest in QEMU.

    From five seconds after the guest has said `running`, three windows of ten seconds. CPU time by the processes'
    clocks in nanoseconds, scaled to a minute; wake-ups as the context switches, voluntary and not, of all the bridge's
    threads; PSS at the end of each window. QEMU's own CPU time, which is mostly the guest's, stands beside it.
    """
    with scratch() as folder, _bridge(folder) as process:
        machine = _machine(process)
        time.sleep(SETTLE_S)
        windows = [watch([process.pid, machine.pid], WINDOW_S) for _ in range(WINDOWS)]
    return [
        Figure("bridge, CPU", "s/min", [60 * bridge.cpu for bridge, _ in windows]),
        Figure("bridge, wake-ups", "1/s", [bridge.wake_ups for bridge, _ in windows]),
        Figure("bridge, memory (PSS)", "MB", [bridge.pss for bridge, _ in windows]),
        Figure("QEMU and guest, CPU", "s/min", [60 * machine.cpu for _, machine in windows]),
    ]


@contextmanager
def _bridge(folder: Path) -> Iterator[psutil.Process]:
    """Run a job that sleeps, from its first `running` on."""
    (folder / "worker").write_text(_PROGRAM)
    (folder / "job.xml").write_text(_JOB.format(image=IMAGE))
    log = folder / "log"
    with log.open("wb") as output:
        words = [*_VMBRIDGE, "run", str(folder), "--hypervisor", "qemu"]
        process = subprocess.Popen(words, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_until_running(Share.two_folders(folder / "shared").guest / STATUS, process, log)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WITHIN_S)


def _wait_until_running(status: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not (status.exists() and "state running" in status.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the job does not run: {log.read_text()[-500:]}")
        time.sleep(0.05)


def _machine(bridge: psutil.Process) -> psutil.Process:
    return next(child for child in bridge.children() if child.name().startswith("qemu-system"))
