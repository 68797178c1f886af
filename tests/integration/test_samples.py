"""The sample job files as they stand: host tasks in real processes, machine tasks in real QEMU, under a client."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from ..plain_guest import build_disk
from ..samples import COMPUTE, HISTOGRAM, JOBS, VBOX_SCRIPT, VMWRAPPER, WRAPPER
from ..standin import Conclusion, End
from .slots import MakeSlot, Slot


def sample(make_slot: MakeSlot, name: str, files: Mapping[str, bytes], job_file: str = "job.xml") -> Slot:
    """A slot with the job file `name` and what it needs."""
    slot = make_slot(hypervisor="qemu")
    for left in ("worker", "job.xml"):
        (slot.slot / left).unlink()
    slot.directory.add(job_file, (JOBS / name).read_bytes())
    for file, content in files.items():
        slot.directory.add(file, content)
    slot.names = set(os.listdir(slot.slot))
    return slot


def succeeds(slot: Slot, *words: str) -> None:
    slot.run(*words)
    concluded = slot.wait()
    assert concluded.end is End.SUCCESS, slot.stderr()
    slot.until_nobody()


def test_wrappers(make_slot: MakeSlot) -> None:
    slot = sample(make_slot, "wrapper.xml", WRAPPER)
    slot.directory.program(COMPUTE, "compute")
    results = slot.directory.output("results.zip", "molecule_42_0_0")
    slot.names = set(os.listdir(slot.slot))
    succeeds(slot, "--nthreads", "3", "--passthrough_child", "--seed", "5")
    with zipfile.ZipFile(io.BytesIO(results.read_bytes())) as archive:
        assert archive.namelist() == ["result_1.txt", "result_2.txt", "service.log"]
        assert archive.read("result_1.txt") == b"1\n2\n"
        said = archive.read("result_2.txt").decode().splitlines()
    assert said[1:] == ["data", "a line", "lib"] and said[0].startswith("--threads 3 ")
    status = slot.read("graphics_status.xml")
    assert status is not None and "<fraction_done>" in status
    assert slot.task.fraction_done == pytest.approx(1.0)


def test_vmwrappers(make_slot: MakeSlot, image: Path) -> None:
    slot = sample(make_slot, "vmwrapper.xml", VMWRAPPER)
    (slot.slot / "cernvm").symlink_to(image)
    succeeds(slot)
    assert slot.read("histogram") == HISTOGRAM
    assert slot.read("simulate.out") == "first 3\n" and slot.read("simulate.err") == "no trouble\n"
    assert slot.read("helper.log") == "helping\n"


def test_vboxwrappers(make_slot: MakeSlot, tmp_path: Path) -> None:
    slot = sample(make_slot, "vbox_job.xml", {"job.sh": VBOX_SCRIPT.encode()}, "vbox_job.xml")
    (tmp_path / "disk").mkdir()
    [disk] = build_disk(tmp_path / "disk", ("vdi",))
    (slot.directory.project / "science_2026_11.vdi").symlink_to(disk)
    early = slot.directory.output("early.dat", "molecule_42_0_0")
    slot.names = {*os.listdir(slot.slot), "shared"}
    slot.run()
    assert slot.wait() == Conclusion(End.SUCCESS, reason="well done"), slot.stderr()
    slot.until_nobody()
    assert early.read_text() == "early"
    assert (slot.directory.project / "scratch/was_here").exists()
    assert "<steps>1</steps>" in (slot.read("trickle_up.xml") or "")
