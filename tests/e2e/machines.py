"""Jobs in real machines under the real client: programs as scientists build them, the bundle, and what is seen of both.

The work units bring the science program and its input; image, agent and bridge come with the app version.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

from guest_side import include_dir
from guest_side.build import build_library

from ..conftest import REPOSITORY
from ..integration.conftest import ENVIRONMENT, VMBRIDGE
from .client import Client
from .conftest import Rig
from .project import AppVersion, Job, ProjectFile, read_bundle

EXIT_ABORTED_VIA_GUI = 203


def compile_program(source: str, folder: Path) -> Path:
    """Build a program of this folder as a scientist does."""
    build_library(folder)
    program = folder / "program"
    command = ["cc", "-O2", "-std=c11", "-static", "-o", str(program), str(Path(__file__).with_name(source))]
    subprocess.run([*command, f"-I{include_dir()}", f"-L{folder}", "-lboinc_api", "-lpthread"], check=True)
    return program


@dataclass(frozen=True, slots=True)
class Science:
    """A program, and jobs for it."""

    program: Path
    outputs: tuple[str, ...] = ("out.txt",)

    def job(self, name: str, *, steps: int, code: int = 0, **more: Any) -> Job:
        """Return a job that takes `steps` tenths of a second in a machine, and ends with `code`."""
        text = f"{steps} {code} {len(name)}\n".encode()
        program = ProjectFile(f"{self.program.parent.name}_1", "science", self.program, executable=True)
        inputs = (program, ProjectFile(f"{name}_in", "in.txt", text))
        return Job(name, inputs=inputs, outputs=self.outputs, **more)

    def expected(self, job: Job, folder: Path) -> bytes:
        """Run the same program in a `folder` of this host, where nothing disturbs it; return what it finds."""
        folder.mkdir()
        (folder / "in.txt").write_bytes(job.inputs[1].read())
        subprocess.run([self.program], cwd=folder, check=True)
        return (folder / "out.txt").read_bytes()


@contextmanager
def packaged(*outputs: str) -> Iterator[AppVersion]:
    """Lend the app version as a project makes it, for jobs with these outputs."""
    wanted = "".join(f"<copy_file_from_VM>{name}</copy_file_from_VM>\n" for name in outputs)
    with bundled(_JOB_FILE.format(outputs=wanted)) as version:
        yield version


@contextmanager
def bundled(job_file: str, *, image: bool = True) -> Iterator[AppVersion]:
    """Lend the app version for a job file, with the tiny image."""
    there = REPOSITORY / "build" / "image"
    if not (there / "image.json").exists():
        pytest.fail("there is no build/image: run `make e2e`, or `make image` first")
    with TemporaryDirectory() as folder:
        job, out = Path(folder, "job.xml"), Path(folder, "out")
        job.write_text(job_file)
        command = [*VMBRIDGE, "package", str(out), "--job", str(job), *(["--image", str(there)] if image else [])]
        done = subprocess.run(command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        yield read_bundle(out)


_JOB_FILE = """<job_desc>
  <task>
    <virtualmachine>end to end</virtualmachine>
    <image>image</image>
    <application>science</application>
    <copy_file_to_VM>in.txt</copy_file_to_VM>
    {outputs}
  </task>
</job_desc>
"""


def qemu(client: Client) -> list[psutil.Process]:
    """Return the machines that run for a client."""
    found = []
    for process in client.processes():
        with suppress(psutil.NoSuchProcess):
            if "qemu" in process.name():
                found.append(process)
    return found


def nothing_is_left(client: Client) -> None:
    """Wait until the slots are empty and no process works there, and see that there is no socket."""
    client.wait(lambda: not client.left_in_slots() and not client.processes(), "the slots are empty")
    assert client.sockets() == []


def fraction_done(client: Client, job: Job) -> float:
    """Return what the client was told last; what it shows may be a guess of its own."""
    _, _, since = client.log().partition(f"Starting task {job.result}")
    found = re.findall(r"<fraction_done>(.*?)</fraction_done>", since)
    return float(found[-1]) if found else 0.0


def begun(rig: Rig, job: Job) -> Job:
    """Hand out a job, and wait until the client has heard of its program."""
    rig.hand_out(job)
    rig.client.wait(lambda: fraction_done(rig.client, job) > 0, f"{job.name} has begun")
    return job


def said(client: Client) -> str:
    """Return the `stderr.txt` of the one job that is in a slot."""
    path = client.slot() / "stderr.txt"
    return path.read_text() if path.exists() else ""


def trickled_up(rig: Rig, job: Job) -> list[str]:
    """Return the texts that came up, by their times: the client may send several at once, in any order."""
    found = [
        re.search(r"<time>(\d+)</time>\s*(.*)", trickle.text, re.S) for trickle in rig.server.trickles_up(job.result)
    ]
    return [text for _, text in sorted((int(match[1]), match[2].strip()) for match in found if match)]
