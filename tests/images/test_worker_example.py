"""The worker of the VMwrapper slides, from its own job file: its helpers find nothing to do, its program runs here."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import psutil

from ..conftest import REPOSITORY
from ..integration.conftest import JobDirectory

WORKER = """#!/usr/bin/python3
import os, sys
times, first = int(sys.argv[1]), sys.stdin.readline().strip()
with open("in") as given, open("out", "w") as out:
    out.write(given.read() * times)
print(first, os.uname().sysname, os.path.basename(os.getcwd()))
print("done", file=sys.stderr)
"""

HELPERS = {
    "cctools.tar": {"cctools/README": "tools\n"},
    "activemq.tar": {"activemq/bin/activemq": "#!/bin/sh\necho broker\nexec sleep 1000\n"},
    "boincvm.tar": {
        "boincvm/HostMain.py": "import sys, time\nprint(sys.argv[1], flush=True)\ntime.sleep(1000)\n",
        "boincvm/HostConfig.cfg": "",
    },
}


def test_the_slides_worker(tmp_path: Path, image: Path) -> None:
    job = JobDirectory(tmp_path / "slot")
    job.path.mkdir()
    for name, members in HELPERS.items():
        root = tmp_path / name.removesuffix(".tar")
        for member, text in members.items():
            (root / member).parent.mkdir(parents=True, exist_ok=True)
            (root / member).write_text(text)
            (root / member).chmod(0o755)
        with tarfile.open(job.path / name, "w") as archive:
            for folder in root.iterdir():
                archive.add(folder, folder.name)
    (job.path / "image").symlink_to(image)
    (job.path / "python").symlink_to(sys.executable)  # which Debian does not have under this name
    (job.path / "job.xml").write_bytes((REPOSITORY / "tests/jobs/worker.xml").read_bytes())
    for name, text in {"worker.py": WORKER, "in": "line\n", "stdin_worker": "first\nsecond\n"}.items():
        (job.path / name).write_text(text)
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out").read_text() == "line\n" * 5
    assert (job.path / "stdout_worker").read_text() == "first Linux work\n"
    assert (job.path / "stderr_worker").read_text() == "done\n"
    assert (job.path / "stdout_broker").read_text() == "broker\n"
    assert (job.path / "stdout_HostMain").read_text() == "./boincvm/HostConfig.cfg\n"
    assert (job.path / "cctools/README").exists()
    assert not [process for process in psutil.process_iter() if _works_in(process, job.path)]
    assert job.left() == []


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd() == os.fspath(folder)
    except psutil.Error:
        return False
