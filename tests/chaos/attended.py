"""A round under the stand-in for the BOINC client: orders every second, quits that get lost, clients that go silent."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from random import Random

from ..integration.slots import Slot as ClientSlot
from ..standin import End
from . import job, judge
from .slot import Slot, Told

EVERY = 5
"""Every fifth seed is such a round."""

HARMS = ("quit", "lost quit", "silence", "killed")
LONG_S = 600.0
"""A job that is suspended half of the time takes twice as long, and the host may be busy."""

_ENDS = {"quit": End.LATER, "lost quit": End.RESTART, "killed": End.RESTART}


def attended(seed: int, directory: Path) -> Told:
    """Run the round of one seed in `directory`."""
    random = Random(seed)
    told = Told()
    launcher = directory / "app"
    launcher.write_text(f"#!{sys.executable}\n{job.APP[-1]}\n")
    launcher.chmod(0o755)
    elements = "<copy_file_to_VM>order</copy_file_to_VM><copy_file_from_VM>out.txt</copy_file_from_VM>"
    script = job.PROGRAM.partition("\n")[2]
    with ClientSlot(
        directory / "client", script, elements, hypervisor="qemu", image=job.IMAGE, checkpoint_period=1.0
    ) as client:
        client.app = client.directory.program(launcher, "vmbridge_chaos")
        client.directory.add("order", "none\n")
        result = client.directory.output("out.txt", "result_0")
        client.names = {path.name for path in client.slot.iterdir()}
        _live(random, client, told)
        if not told.wrong and result.read_text() != job.result():
            told.wrong.append("the result is wrong")
        if not told.wrong and client.left():
            told.wrong.append(f"left: {sorted(client.left())}")
    return told


def _live(random: Random, client: ClientSlot, told: Told) -> None:
    slot, known = Slot(client.slot), judge.Known()
    spent = 0.0
    for harm in [*random.choices(HARMS, k=random.randint(1, 3)), None]:
        slot.begin()
        client.beating = True
        client.start(client.app, environment=job.environment())
        told.starts += 1
        if harm is not None:
            # From the first moments to the middle of the work.
            _storm(random, client, random.random() * 9)
            _harm(random, client, harm)
        else:
            _storm(random, client, 4)
        concluded = client.wait(LONG_S)
        told.story.append(f"start {told.starts}: {harm}; {concluded.end.value}")
        if concluded.end not in (_ENDS.get(harm or "", End.SUCCESS), End.SUCCESS):
            told.wrong.append(f"start {told.starts}: {harm}: {concluded}")
        end = judge.End(client.status, harm == "quit", False)
        told.wrong += [f"start {told.starts}: {problem}" for problem in judge.after_end(slot, end, known)]
        if client.task.current_cpu_time < spent:
            told.wrong.append(f"the client was told {spent} s of CPU time, then {client.task.current_cpu_time}")
        spent = client.task.checkpoint_cpu_time
        if concluded.end is End.SUCCESS or told.wrong:
            return
    told.wrong.append("not over")


def _storm(random: Random, client: ClientSlot, seconds: float) -> None:
    """Suspend and resume, as a client does that limits the use of the processor."""
    assert client.process is not None
    until = time.monotonic() + seconds
    while time.monotonic() < until and client.process.poll() is None:
        for order in ("suspend", "resume"):
            client.order(order)
            time.sleep(random.uniform(0.2, 1.0))


def _harm(random: Random, client: ClientSlot, harm: str) -> None:
    assert client.process is not None
    match harm:
        case "quit":
            client.order("quit")
        case "killed":
            client.process.kill()
        case "silence":
            client.beating = False
            time.sleep(random.uniform(3, 12))
            client.beating = True
        case "lost quit":
            client.beating = False
            silence_s = random.uniform(3, 12)
            if silence_s > 7.5:
                client.order("suspend")  # its last word before the quit that got lost
            time.sleep(silence_s)
            client.process.kill()
