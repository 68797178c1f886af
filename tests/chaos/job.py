"""The job whose right result is known byte for byte, in a directory like a slot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..conftest import REPOSITORY

IMAGE = REPOSITORY / "build" / "image"
STEPS = 40
SELF_KILLED = 137
"""How a program ends that kills itself."""

_MODULUS = 1_000_003

# It counts in memory (n, h) and on its disk (out.txt). If one of them goes back alone, or anything is done twice, the
# result is wrong. Half-way it does what `order` says, which the host may write anew before each start.
PROGRAM = f"""#!/bin/sh
n=0
h=7
while [ $n -lt {STEPS} ]; do
    n=$((n + 1))
    h=$(((h * 31 + n) % {_MODULUS}))
    echo "step $n $h" >> out.txt
    echo "0.$((n * 9 / {STEPS}))" > $VMBRIDGE_SPOOL/.new && mv $VMBRIDGE_SPOOL/.new $VMBRIDGE_SPOOL/fraction_done
    if [ $n -eq {STEPS // 2} ]; then
        case $(cat /run/vmbridge/host/in/order 2>/dev/null) in
        agent) kill -TERM 1; sleep 60 ;;
        off) /bin/busybox poweroff -f; sleep 60 ;;
        crash) echo c > /proc/sysrq-trigger; sleep 60 ;;
        self) kill -9 $$ ;;
        hog) for i in 1 2 3; do (j=0; while [ $j -lt 200000 ]; do j=$((j + 1)); done) & done; wait ;;
        fill) dd if=/dev/zero of=big bs=1M count=700 2>/dev/null; rm -f big; sync ;;
        esac
    fi
    sleep 0.1
done
"""

JOB = """<job_desc>
  <task>
    <virtualmachine>chaos</virtualmachine>
    <image>{image}</image>
    <application>worker</application>
    <copy_file_to_VM>order</copy_file_to_VM>
    <copy_file_from_VM>out.txt</copy_file_from_VM>
    <checkpoint_period>1</checkpoint_period>
  </task>
</job_desc>
"""

# Checkpoints may cost a fifth of the time here, not a fiftieth: otherwise a job of seconds would have one.
APP = [
    sys.executable,
    "-c",
    "from bridge.life import checkpoints; checkpoints.COST_FACTOR, checkpoints.COPY_EVERY = 5.0, 3\n"
    "from bridge.app import main; raise SystemExit(main([]))",
]


def result() -> str:
    """Return what out.txt must hold."""
    lines, h = [], 7
    for n in range(1, STEPS + 1):
        h = (h * 31 + n) % _MODULUS
        lines.append(f"step {n} {h}\n")
    return "".join(lines)


def make(directory: Path) -> None:
    """Put the job into `directory`."""
    (directory / "worker").write_text(PROGRAM)
    (directory / "job.xml").write_text(JOB.format(image=IMAGE))
    (directory / "order").write_text("none\n")


OURS = {"worker", "job.xml", "order", "stderr.txt"}
"""What is in the directory besides what the bridge makes."""


def environment() -> dict[str, str]:
    """Return the environment of the bridge."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
