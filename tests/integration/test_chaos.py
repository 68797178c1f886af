"""A short piece of the fault campaign (`make chaos`); each seed is one that found something, or shows much at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..chaos.plan import CELLS, Call, Fault, Harm, Plan, Step, plan
from ..chaos.round import Round
from ..patience import AT_MOST_S


def test_every_cell_has_its_seed() -> None:
    assert {(fault.step, fault.harm) for seed in range(len(CELLS)) for fault in plan(seed, real_disk=True).faults} == {
        *CELLS
    }


QUIT_EARLY = Fault(Step.COMMIT, Harm.QUIT)

PLANS = {
    "killed, and killed again while it comes back": (
        Fault(Step.COMMIT, Harm.BRIDGE, 0.05),
        Fault(Step.RESTORE, Harm.BRIDGE, 0.2),
    ),
    "the machine killed while it comes back": (QUIT_EARLY, Fault(Step.RESTORE, Harm.MACHINE)),
    "the hypervisor killed while it saves": (Fault(Step.SAVE, Harm.MACHINE, 0.02),),
    "killed before a state is recorded, and after": (
        Fault(Step.COMMIT, Harm.LAST_CALL, call=Call("rename", "/machine/checkpoints.json")),
        Fault(Step.COMMIT, Harm.LAST_CALL, call=Call("rename", "/machine/checkpoints.json", 1), after=True),
    ),
    "no room for a record, then none for the news that the results are home": (
        Fault(Step.COMMIT, Harm.ENOSPC, call=Call("write", "/machine/.checkpoints.json")),
        Fault(Step.HOME, Harm.EIO, call=Call("fsync", ".vmbridge.home")),
    ),
    "a record that cannot be read": (
        QUIT_EARLY,
        Fault(Step.RESTORE, Harm.EIO, call=Call("open", "/machine/checkpoints.json")),
    ),
    "a line of the log that cannot be written": (  # it used to leave a traceback; seed 1009
        Fault(Step.RUN, Harm.EIO, call=Call("write", "/stderr.txt", 2)),
    ),
    "killed when the results are home": (
        Fault(Step.HOME, Harm.LAST_CALL, call=Call("rename", ".vmbridge.home"), after=True),
    ),
    "the power cut when a state is recorded, and when it has been restored; then the clock is set back": (
        Fault(Step.COMMIT, Harm.POWER, call=Call("rename", "/machine/checkpoints.json"), after=True),
        Fault(Step.RESTORE, Harm.POWER, 0.2),
        Fault(Step.RUN, Harm.CLOCK, jump=-3600),
    ),
    "the power cut when the results are home": (
        Fault(Step.HOME, Harm.POWER, call=Call("fsync", ".vmbridge.home"), after=True),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_job_comes_to_its_right_end(name: str, tmp_path: Path, libraries: Path) -> None:
    told = Round(Plan(0, PLANS[name]), tmp_path, libraries, quit_within_s=AT_MOST_S).run()
    assert not told.wrong, "\n".join([*told.story, *told.wrong])
