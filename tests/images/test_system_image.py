"""A Debian system in a real machine: programs of all kinds, first boot, going on after a kill, what a project ships."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.image import load_image
from bridge.image.build import build_image
from bridge.image.system import System

from ..integration.conftest import ENVIRONMENT, VMBRIDGE, JobDirectory
from ..integration.test_going_on import STEPS, App
from ..patience import AT_MOST_S, until
from .conftest import changed

HERE = Path(__file__).parent

OUT = "<copy_file_from_VM>out.txt</copy_file_from_VM>"

PYTHON = """#!/usr/bin/python3
import os, sys
with open("out.txt", "w") as out:
    print(sum(range(1001)), file=out)
    print(open("/opt/vmbridge-test/words").read().strip(), open("/srv/first-boot").read().strip(), file=out)
    print(os.stat("/usr/bin/su").st_mode & 0o7000 == 0o4000, os.getuid(), os.path.exists("/dev/fd/0"), file=out)
"""

# As the counter of test_going_on: what it has in memory and on its disk must stay together.
COUNTER = f"""#!/usr/bin/python3
import os, time
spool = os.environ["VMBRIDGE_SPOOL"]
for n in range(1, {STEPS} + 1):
    with open("out.txt", "a") as out:
        print("step", n, file=out)
    with open(spool + "/.new", "w") as new:
        print(n / {STEPS}, file=new)
    os.rename(spool + "/.new", spool + "/fraction_done")
    time.sleep(0.1)
"""

MakeJob = Callable[..., JobDirectory]


def python(job: JobDirectory, program: str) -> JobDirectory:
    (job.path / "worker").write_text(program)
    return job


def test_a_python_program_in_a_system_that_was_set_up(make_job: MakeJob) -> None:
    job = python(make_job("", OUT), PYTHON)
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "500500\nlaid over it once more\nTrue 0 True\n"
    assert job.left() == []


def test_a_dynamic_program(make_job: MakeJob, tmp_path: Path) -> None:
    source, program = tmp_path / "p.c", tmp_path / "p"
    source.write_text('#include <stdio.h>\nint main(void) { return puts("42") < 0; }\n')
    subprocess.run(["cc", "-o", program, source], check=True)
    job = make_job(program, "<stdout_filename>out.txt</stdout_filename>")
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "42\n"


def test_a_first_boot_that_fails_is_the_jobs_error_and_says_why(make_job: MakeJob, image: Path, tmp_path: Path) -> None:
    cmdline = load_image(image).cmdline + " fail_at_first_boot"
    done = make_job("exit 0", image_path=changed(image, tmp_path / "failing", cmdline=cmdline)).run()
    assert done.returncode == 1
    assert "the image's first-boot script ended with code 3: trying|the disk is ? full" in done.stderr


def test_a_machine_that_is_killed_goes_on_from_its_last_checkpoint(make_job: MakeJob) -> None:
    app = App(python(make_job("", OUT + "<checkpoint_period>1</checkpoint_period>"), COUNTER))
    process = app.start()
    app.wait_until_said("checkpoint checkpoint-1 taken")
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=AT_MOST_S)
    until(lambda: app.job.machines() == [])
    app.finish()
    assert app.said("restored from checkpoint-")


@pytest.mark.parametrize("disk_format", ["vdi", "vmdk"])
def test_a_disk_of_another_hypervisors_format(make_job: MakeJob, image: Path, tmp_path: Path, disk_format: str) -> None:
    loaded = load_image(image)
    assert loaded.work_disk is not None
    disk = f"system.{disk_format}"
    digests = json.loads((image / "image.json").read_text())["sha256"]
    other = changed(
        image, tmp_path / "other", work_disk=disk, work_disk_format=disk_format, sha256={**digests, disk: "0" * 64}
    )
    subprocess.run(["qemu-img", "convert", "-O", disk_format, loaded.work_disk, other / disk], check=True)
    job = python(make_job("", OUT, image_path=other), PYTHON)
    done = job.run()
    assert done.returncode == 0, done.stderr


def test_a_bundle_with_it_runs(make_job: MakeJob, image: Path, tmp_path: Path) -> None:
    job = python(make_job("", OUT, image_path=Path("image")), PYTHON).path
    command: list[str | Path] = [*VMBRIDGE, "package", tmp_path / "bundle", "--image", image, "--job", job / "job.xml"]
    packaged = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert packaged.returncode == 0, packaged.stderr
    (job / "image").symlink_to(image)
    (program,) = (tmp_path / "bundle").glob("vmbridge-app_*")
    done = subprocess.run([program], cwd=job, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (job / "out.txt").read_text().startswith("500500\n")


def test_the_manifest_lists_what_is_in_it_and_nothing_is_left_of_its_making(image: Path) -> None:
    manifest = json.loads((image / "image.json").read_text())
    assert {"libc6", "python3-minimal", "coreutils"} < set(manifest["packages"])
    assert any(name.startswith("linux-image-") for name in manifest["packages"])
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((image / name).read_bytes()).hexdigest() == digest
    assert sorted(os.listdir(image)) == ["image.json", "initramfs.cpio", "system.qcow2", "vmlinux"]


def test_two_builds_are_the_same_bytes(image: Path, tmp_path: Path) -> None:
    system = System(("python3-minimal",), HERE / "root", HERE / "first_boot.sh")
    build_image(tmp_path / "again", progress=lambda _: None, system=system)
    assert (tmp_path / "again/image.json").read_text() == (image / "image.json").read_text()


def test_a_package_that_does_not_exist_leaves_nothing(tmp_path: Path) -> None:
    command: list[str | Path] = [
        *VMBRIDGE,
        "image",
        "build",
        tmp_path / "out",
        "--packages",
        "python3-minimal,no-such-package",
    ]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("vmbridge: Debian 12 has no package no-such-package")
    assert not (tmp_path / "out").exists()
