"""`vmbridge-app` with job files that nobody can run: one sentence, the code for it, and nothing else happens."""

from __future__ import annotations

import os

import pytest

from ..malformed import MALFORMED, Case, cases
from ..standin import Conclusion, End
from ..standin.client import FINISH_FILE
from .slots import MakeSlot

EXIT_INIT_FAILURE = 206

SAMPLE = {
    "form": (
        "nothing at all",
        "the client's init_data.xml in its place",
        "task and root end in the wrong order",
        "a merge conflict",
        "an entity bomb",
        "an entity that reads a file of the volunteer's",
    ),
    "truncated": ("in a number, which would be another one", "before the last byte"),
    "bytes": ("UTF-16 with its mark", "NULs and nothing else", "a NUL in the root's name", "a disk image"),
    "machine": (
        "memory below nothing",
        "no isolation, by the job file",
        "a checkpoint in more seconds than a double holds",
    ),
    "names": ("an input that says who the volunteer is", "an output that ends the job", "a name that is not UTF-8"),
    "host": ("output over a file of the volunteer's", "a progress file anywhere is deleted at the start"),
    "around": ("results packed over the job file", "a pattern as the shell has it"),
    "together": ("two images for one machine", "a job of daemons only"),
}
CASES = [
    pytest.param(case, id=case.name)
    for name, wanted in SAMPLE.items()
    for case in cases(MALFORMED / f"{name}.txt")
    if case.name in wanted
]


def test_the_sample_is_whole() -> None:
    assert len(CASES) == sum(map(len, SAMPLE.values())) >= 20


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_job_file(make_slot: MakeSlot, case: Case) -> None:
    slot = make_slot("touch started", hypervisor="local")
    slot.job_file.write_bytes(case.data)
    before = {path.name: path.lstat().st_mtime_ns for path in slot.slot.iterdir()}
    slot.run()
    assert slot.wait() == Conclusion(End.ERROR, code=EXIT_INIT_FAILURE), slot.stderr()
    code, sentence, notice = (slot.read(FINISH_FILE) or "").splitlines()
    assert (code, notice) == (str(EXIT_INIT_FAILURE), "")
    assert sentence.startswith(f"{slot.slot}/job.xml") and sentence.endswith(case.expected[0])
    assert sentence in slot.stderr() and "Traceback" not in slot.stderr()
    assert slot.left() == set()
    assert {name: (slot.slot / name).lstat().st_mtime_ns for name in slot.names} == {
        name: before[name] for name in slot.names
    }
    assert not slot.others()


def test_a_folder_in_its_place(make_slot: MakeSlot) -> None:
    slot = make_slot()
    os.unlink(slot.job_file)
    slot.job_file.mkdir()
    slot.run()
    assert slot.wait() == Conclusion(End.ERROR, code=EXIT_INIT_FAILURE), slot.stderr()
    assert "job.xml: is no file. Put the job file in its place" in slot.stderr()
    assert slot.left() == set() and not slot.others()
