"""Programs in C++, Fortran and Python that are quit in a machine and go on in another from what they saved."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from guest_side.python.bundle import bundle

from ..integration.conftest import JobDirectory
from ..integration.test_going_on import end
from ..integration.test_program_state import ELEMENTS, STEPS, Chain, built

MakeJob = Callable[..., JobDirectory]

PYTHON = f"""#!/usr/bin/python3
import os, time
import boinc

def may_go_on():
    return any(map(os.path.exists, ["/run/vmbridge/host/go", "../../shared/host/go"]))

n, value, size = 0, 1, 0
with boinc.task() as task:
    if os.path.exists("state"):
        with open("state") as file:
            n, value, size = map(int, file.read().split())
    with open("log.txt", "r+" if size else "w") as log:
        log.truncate(size)
        log.seek(size)
        while n < {STEPS}:
            if n != {STEPS} // 2 or may_go_on():
                value = (value * 6364136223846793005 + 1442695040888963407) % (1 << 63)
                n += 1
                print(n, value, file=log, flush=True)
                task.fraction_done = n / {STEPS}
            time.sleep(0.03)
            if task.checkpoint_due():
                with task.checkpoint("state") as file:
                    print(n, value, log.tell(), file=file)
"""


def go_through(job: JobDirectory) -> Chain:
    """Quit in the middle, throw away the machines that were saved, and come to the right end all the same."""
    app = Chain(job)
    process = app.start()
    app.wait_until_said("what the program has saved itself is kept")
    assert end(process, signal.SIGTERM) == 0
    assert app.states() and app.sets()
    record = app.path / "machine/checkpoints.json"
    content = json.loads(record.read_text())
    content["description"]["version"] = "1.0"
    record.write_text(json.dumps(content))
    app.finish()
    assert app.goes_on_from_files(), app.stderr.read_text()
    return app


@pytest.mark.parametrize(
    ("source", "compiler"),
    [("every.cpp", ["g++"]), ("every.f90", ["gfortran", "-fno-range-check"])],
    ids=["C++", "Fortran"],
)
def test_a_compiled_program(make_job: MakeJob, tmp_path: Path, source: str, compiler: list[str]) -> None:
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"there is no {compiler[0]} here")
    go_through(make_job(built(tmp_path, source, *compiler), ELEMENTS.format(period=1)))


def test_python(make_job: MakeJob) -> None:
    job = make_job("", ELEMENTS.format(period=1) + "<copy_file_to_VM>boinc.py</copy_file_to_VM>")
    (job.path / "worker").write_text(PYTHON)
    (job.path / "boinc.py").write_text(bundle(), encoding="utf-8")
    app = go_through(job)
    assert app.stderr.read_text().count("goes on from what it has saved itself") == 1
