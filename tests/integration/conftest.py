"""What integration tests share: the built image, jobs as folders, and `vmbridge` as its user starts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from .. import libvirtd
from ..conftest import REPOSITORY
from ..patience import AT_MOST_S, until
from .slots import MakeSlot, Slot

IMAGE = Path(os.environ.get("TINY_IMAGE", REPOSITORY / "build" / "image"))
BOINC_DEV = Path(os.environ.get("BOINC_DEV", REPOSITORY / "build" / "boinc"))
VMBRIDGE = [sys.executable, "-c", "from bridge.cli import main; main()"]
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(REPOSITORY),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an integration test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def image() -> Path:
    """The tiny image that `make image` built."""
    if not (IMAGE / "image.json").exists():
        pytest.fail("there is no build/image: run `make integration`, or `make image` first")
    return IMAGE


@pytest.fixture(scope="module")
def daemon() -> Iterator[psutil.Process]:
    """A libvirtd, which is the one that everything in the module speaks to."""
    if why := libvirtd.forbidden():
        pytest.skip(why)
    if why := libvirtd.missing():
        (pytest.fail if os.environ.get("LIBVIRT_WANTED") else pytest.skip)(why)
    with (
        tempfile.TemporaryDirectory(prefix="lv") as folder,
        libvirtd.daemon(Path(folder)) as (uri, process),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("LIBVIRT_DEFAULT_URI", uri)
        patch.setitem(ENVIRONMENT, "LIBVIRT_DEFAULT_URI", uri)
        yield process


@dataclass
class JobDirectory:
    """A folder with a job file, and the ways to run it."""

    path: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start `vmbridge run` and return at once."""
        command = [*VMBRIDGE, "-v", "run", str(self.path), *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=self.path
        )
        self.started.append(process)
        return process

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `vmbridge run` to its end."""
        process = self.start(*options)
        out, err = process.communicate(timeout=2 * AT_MOST_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def wait_for(self, name: str) -> None:
        """Wait until the file `name` is there."""
        until((self.path / name).exists, lambda: f"{name} is not there")

    def left(self) -> list[str]:
        """The names in the folder that no test put there."""
        return sorted(name for name in os.listdir(self.path) if name in ("shared", "machine") or name.startswith("."))

    def machines(self) -> list[psutil.Process]:
        """All processes on this host that were started for a machine of this job."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if (
                words
                and ("qemu-system" in words[0] or words[0].endswith("/agent"))
                and str(self.path) in " ".join(words)
            ):
                found.append(process)
        return found


@pytest.fixture
def make_job(tmp_path: Path, image: Path) -> Iterator[Callable[..., JobDirectory]]:
    """Make job directories from a program (a shell script as text, or the path of a binary) and task elements."""
    jobs: list[JobDirectory] = []

    def make(
        program: str | Path, elements: str = "", image_path: Path = image, directory: Path | None = None
    ) -> JobDirectory:
        path = directory or tmp_path / f"job{len(jobs)}"
        path.mkdir(exist_ok=True)
        if isinstance(program, Path):
            shutil.copy(program, path / "worker")
        else:
            (path / "worker").write_text(f"#!/bin/sh\n{program}\n")
        (path / "job.xml").write_text(
            "<job_desc>\n  <task>\n    <virtualmachine>test</virtualmachine>\n"
            f"    <image>{image_path}</image>\n    <application>worker</application>\n{elements}\n"
            "  </task>\n</job_desc>\n"
        )
        jobs.append(JobDirectory(path))
        return jobs[-1]

    yield make
    for job in jobs:
        for process in job.started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def make_slot(tmp_path: Path) -> Iterator[MakeSlot]:
    """Make a client with a job for `vmbridge-app` in its slot; afterwards nothing of it runs."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Slot(tmp_path / "data", *arguments, **options))
