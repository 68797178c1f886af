"""Guests of ours in machines that start from a CD, under a stand-in for their hypervisor."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.image import load_image
from bridge.slots import look

from ..conftest import REPOSITORY
from ..standin import Conclusion, End
from . import conftest
from .slots import MakeSlot, Slot
from .test_app_machine import link_image

CD_IMAGE = REPOSITORY / "build" / "image-cd"

_STEPS = 30
_COUNTER = f"n=0; while [ $n -lt {_STEPS} ]; do n=$((n + 1)); echo step $n >> out.txt; sleep 0.2; done"
"""What it has in memory and on its disk must stay together."""


def built() -> Path:
    """Return the tiny image with a CD to boot from."""
    if not (CD_IMAGE / "image.json").exists():
        pytest.fail("there is no build/image-cd: run `make build/image-cd/image.json`")
    return CD_IMAGE


@contextmanager
def in_path(folder: Path) -> Iterator[None]:
    """Let the programs in a folder be found before others, by us and by those that we start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        patch.setitem(conftest.ENVIRONMENT, "PATH", f"{folder}:{conftest.ENVIRONMENT['PATH']}")
        yield


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The tiny image with a CD to boot from, whose disk nobody writes."""
    disk = load_image(built()).work_disk
    assert disk is not None
    before = disk.read_bytes()
    yield CD_IMAGE
    assert disk.read_bytes() == before, "a machine wrote into the image"


def goes_on(make_slot: MakeSlot, image: Path, hypervisor: str, end: Callable[[Slot], None]) -> None:
    """Check that a job goes on from its checkpoint when `end` has ended its start."""
    elements = "<copy_file_from_VM>out.txt</copy_file_from_VM><checkpoint_period>1</checkpoint_period>"
    slot = make_slot(_COUNTER, elements, hypervisor=hypervisor, image="image", checkpoint_period=1.0)
    result = slot.directory.output("out.txt", "molecule_42_0_0")
    link_image(slot, image)
    slot.run()
    slot.until_running()
    slot.until_told("checkpoint checkpoint-1 taken")
    end(slot)
    slot.wait()  # one that was killed may take a moment to be gone
    slot.until_nobody()
    assert [problem for problem in look(slot.slot).problems if "shared" not in problem] == []
    slot.run()
    assert slot.wait() == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    assert re.search(r"restored from checkpoint-\d+", slot.stderr())
    assert result.read_text() == "".join(f"step {n}\n" for n in range(1, _STEPS + 1))
    slot.until_nobody()
    assert slot.left() == set()
