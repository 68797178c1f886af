"""`vmbridge-app` under the stand-in for the client, with real machines: what only they can show."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil

from ..standin import Conclusion, End
from ..standin.client import FINISH_FILE, TEMPORARY_EXIT_FILE
from .slots import MakeSlot, Slot, descriptors

BUSY = "while :; do :; done"
OUTPUT = "<copy_file_from_VM>out.txt</copy_file_from_VM>"


def link_image(slot: Slot, image: Path) -> None:
    """Put the image's files into the slot as the client does: a folder of links."""
    manifest = json.loads((image / "image.json").read_text())
    for name in ("image.json", *manifest["sha256"]):
        physical = slot.directory.project / f"{name}_1"
        physical.symlink_to(image / name)
        slot.directory.link(f"image/{name}", physical.name)
    slot.names = set(os.listdir(slot.slot))


def test_a_result_from_a_machine(make_slot: MakeSlot, image: Path) -> None:
    script = "printf 'fpops 5e9\\nintops 7000\\n' > /tmp/creditreport; echo 0.5 > /tmp/fraction_done\n"
    script += "until [ -e /run/vmbridge/host/go ]; do sleep 0.1; done; cat in.txt > out.txt"
    slot = make_slot(
        script, f"<copy_file_to_VM>in.txt</copy_file_to_VM>{OUTPUT}", hypervisor="qemu", image="image", wu_cpu_time=9.0
    )
    slot.directory.add("in.txt", "12\n")
    result = slot.directory.output("out.txt", "molecule_42_0_0")
    link_image(slot, image)
    theirs = {(status.st_dev, status.st_ino) for status in map(os.fstat, slot.inherited)}
    slot.run()
    # Orders are taken while the machine comes up, however busy the bridge is with that.
    for order in ("suspend", "resume", "reread_app_info"):
        slot.order(order)
        slot.until(lambda: slot.sent[-1].read_ns, "the reading")
    slot.until(slot.qemu, "the machine")
    machine = slot.qemu()[0]
    assert not theirs & descriptors(machine) and "LD_LIBRARY_PATH" not in machine.environ()
    assert os.getsid(machine.pid) == machine.pid
    slot.until(lambda: slot.task.fraction_done == 0.5 and slot.task.fpops_cumulative == 5e9, "the report")
    (slot.slot / "shared/host/go").touch()
    assert slot.wait() == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    assert result.read_text() == "12\n"
    slot.until_nobody()
    assert slot.left() == set()
    assert slot.task.intops_cumulative == 7000 and slot.task.current_cpu_time > 9.0


def test_an_abort_ends_a_machine_that_comes_up(make_slot: MakeSlot, image: Path) -> None:
    slot = make_slot(BUSY, hypervisor="qemu", image=image)
    slot.run()
    slot.until(slot.qemu, "the machine")
    slot.order("abort")
    assert slot.wait().end is End.ABORTED and slot.status == 194
    slot.until_nobody()
    assert slot.read(FINISH_FILE) is None and slot.read(TEMPORARY_EXIT_FILE) is None and slot.left() == set()


def test_a_suspended_machine_uses_no_processor(make_slot: MakeSlot, image: Path) -> None:
    slot = make_slot(BUSY, hypervisor="qemu", image=image)
    slot.run()
    slot.until_running()
    machine = slot.qemu()[0]
    slot.order("suspend")
    slot.until(lambda: stands_still(slot, machine), "the pause")
    spent = cpu(machine)
    slot.order("resume")
    slot.until(lambda: cpu(machine) > spent + 0.2, "the end of the pause")
    slot.order("quit")
    assert slot.wait().end is End.LATER and slot.status == 0
    slot.until_nobody()
    assert slot.read(FINISH_FILE) is None and slot.read(TEMPORARY_EXIT_FILE) is None
    assert slot.task.current_cpu_time >= spent


RESTING = """
echo start >> starts
if [ ! -e rested ]; then : > rested; exec boinc-guest temporary-exit 5 'plug in the power' --notice; fi
cat starts > out.txt
"""


def test_a_program_rests_outside_of_its_machine(make_slot: MakeSlot, image: Path) -> None:
    """The client has the computer meanwhile. Started too early, the job leaves once more; the program starts once."""
    slot = make_slot(RESTING, OUTPUT, hypervisor="qemu", image=image)
    slot.run()
    concluded = slot.wait()
    assert concluded == Conclusion(End.TEMPORARY_EXIT, delay_s=60, reason="plug in the power", notice=True), (
        slot.stderr()
    )
    assert slot.status == 0 and slot.task.checkpoint_cpu_time > 0
    slot.until_nobody()
    while concluded.end is End.TEMPORARY_EXIT:
        slot.run()
        concluded = slot.wait()
    assert concluded == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    assert slot.read("out.txt") == "start\nstart\n" and "restored from checkpoint-1" in slot.stderr()


def test_a_machine_does_not_outlive_a_bridge_that_is_killed(make_slot: MakeSlot, image: Path) -> None:
    slot = make_slot(BUSY, hypervisor="qemu", image=image)
    slot.run()
    slot.until_running()
    os.kill(slot.pid, signal.SIGKILL)
    assert slot.wait().end is End.RESTART
    slot.until_nobody()


def cpu(machine: psutil.Process) -> float:
    times = machine.cpu_times()
    return float(times.user + times.system)


def stands_still(slot: Slot, machine: psutil.Process) -> bool:
    """Say whether the machine uses next to nothing between one status and the next but one."""
    spent, told = cpu(machine), len(slot.statuses())
    slot.until(lambda: len(slot.statuses()) >= told + 2, "statuses in the pause")
    return cpu(machine) - spent < 0.1
