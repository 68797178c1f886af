"""Guests with another processor than this computer's: the contract, and whole jobs, in emulated aarch64 machines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.hypervisors.contract import Case, Ground, cases
from bridge.hypervisors.qemu import Qemu
from bridge.image import load_image
from bridge.image.build import build_image

from ..conftest import REPOSITORY
from ..integration import island
from ..integration.conftest import ENVIRONMENT, VMBRIDGE, JobDirectory
from ..integration.slots import MakeSlot
from ..integration.test_app_machine import link_image
from ..patience import AT_MOST_S
from ..standin import Conclusion, End

EXAMPLE = REPOSITORY / "guest_side/examples/lennard_jones"
CC = "aarch64-linux-gnu-gcc"


@pytest.mark.parametrize("case", cases(Qemu), ids=str)
def test_contract(case: Case, tmp_path: Path, image: Path) -> None:
    case(Ground(Qemu, tmp_path, image))


def test_the_same_packages_give_the_same_bytes(image: Path, tmp_path: Path) -> None:
    again = build_image(tmp_path, progress=lambda _: None, arch="aarch64")
    assert again.digest == load_image(image).digest


def test_a_compiled_program_with_the_library(make_job: Callable[..., JobDirectory], tmp_path: Path) -> None:
    """The example, made shorter and built for the guest's processor: it says how far it is, and leaves its result."""
    program, library = tmp_path / "lj", tmp_path / "library"
    subprocess.run([*VMBRIDGE, "library", library, "--cc", CC], check=True, env=ENVIRONMENT)
    linked = [f"-I{library}", f"-L{library}", "-lboinc_api", "-lpthread", "-lm"]
    subprocess.run([CC, "-O2", "-std=c11", "-static", "-o", program, EXAMPLE / "lj.c", *linked], check=True)
    job = make_job(program, "<copy_file_to_VM>lj.in</copy_file_to_VM><copy_file_from_VM>energy.txt</copy_file_from_VM>")
    (job.path / "lj.in").write_text("steps 60\nparticles 343\ndensity 0.8\ndt 0.002\n")
    done = job.run("--hypervisor", "qemu")
    assert done.returncode == 0, done.stderr
    assert "% done" in done.stderr and (job.path / "energy.txt").read_text()
    assert job.left() == [] and job.machines() == []


STEPS = 12
COUNTER = f"""
n=0
while [ $n -lt {STEPS} ]; do
    n=$((n + 1))
    echo "step $n" >> out.txt
    [ $n != 6 ] || until [ -e /run/vmbridge/host/go ]; do sleep 0.1; done
done
uname -m >> out.txt
"""
"""What it has in memory (n) and on its disk (out.txt) must stay together."""


def test_a_job_goes_on_from_its_checkpoint(make_slot: MakeSlot, image: Path) -> None:
    slot = make_slot(COUNTER, "<copy_file_from_VM>out.txt</copy_file_from_VM>", hypervisor="qemu", image="image")
    link_image(slot, image)
    result = slot.directory.output("out.txt", "molecule_42_0_0")
    slot.run()
    slot.until_running()
    slot.order("quit")
    assert slot.wait().end is End.LATER, slot.stderr()
    slot.run()
    slot.until_told("restored from checkpoint-")
    (slot.slot / "shared/host/go").touch()
    assert slot.wait() == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    assert result.read_text() == "".join(f"step {n}\n" for n in range(1, STEPS + 1)) + "aarch64\n"
    slot.until_nobody()


def test_a_card_on_an_island(tmp_path: Path, image: Path) -> None:
    """Nothing of the host can be reached by such a guest either, and its cable can be pulled."""
    if not island.possible():
        pytest.skip("no network namespace may be made here, or there is no ip(8)")
    tests = [str(REPOSITORY / "tests/integration/on_island.py"), "-k", "reached or cuts_the_network"]
    done = subprocess.run(
        [*island.ENTER, sys.executable, "-m", island.__name__, tmp_path, sys.executable, "-m", "pytest", "-x", *tests],
        env={**ENVIRONMENT, "ISLAND": str(tmp_path), "ISLAND_HYPERVISOR": "qemu", "TINY_IMAGE": str(image)},
        capture_output=True,
        text=True,
        timeout=10 * AT_MOST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
