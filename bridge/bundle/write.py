"""Put the bundle together: look at everything first, then write, then prove that it runs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..errors import HostError, ImageError, JobFileError
from ..guest.stage import refuse_dynamic
from ..image import MANIFEST, Image, load_image
from ..image.bare import load_disk
from ..job import MachineTask
from ..job.names import JOB_FILE, VBOX_JOB_FILE, is_taken
from ..job.schema import parse_job, read_text
from ..job.vbox import VM_IMAGE
from .archive import archive
from .compiled import compile_all
from .files import BundleFile, bundle_file, digest_of, given_file
from .folder import new_folder, refuse_foreign, write
from .modules import collect_modules
from .program import main_program
from .version import VERSION_FILE, version_xml

PLATFORM = "x86_64-pc-linux-gnu"
"""BOINC's name for the computers that this program runs on."""

IMAGE = "image"
"""The image's folder in the slot, and therefore the job file's <image>."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was written: the main program first."""

    directory: Path
    files: tuple[BundleFile, ...]
    oldest_python: tuple[int, int]


def write_bundle(out: Path, *, image: Path | None, job: Path, more: Sequence[Path] = ()) -> Bundle:
    """Write the bundle into the folder `out`, which must be new, empty, or a bundle, which is replaced.

    `image` is an image's folder, or the disk that a vbox_job.xml boots; None for a job that needs no machine. `job` is
    a job file, `more` files that the application finds in its slot under their own names: a science program, or data
    for all jobs. The same inputs, packages and Python give the same bytes. After a failure `out` is as it was.

    :raise JobFileError: the job file is broken, looks for the image elsewhere than in `image`, or needs one.
    :raise ImageError: the image is broken, or the program cannot run in it.
    :raise HostError: `out` is something else; a file or package is missing; the disk does not allow it.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise HostError(f"bundles are made on x86_64 Linux, for x86_64 Linux; this is {sys.platform}")
    out = Path(os.path.abspath(out))
    refuse_foreign(out)
    tasks = parse_job(job, read_text(job, job)).machine_tasks
    if any(task.plain for task in tasks):
        science = _vbox_files(job, tasks, image, more)
    else:
        loaded = None if image is None else load_image(image)
        science = [given_file(job, JOB_FILE), *_more_files(job, tasks, loaded, more)]
        if image is not None and loaded is not None:
            science = [*_image_files(loaded, image / MANIFEST if image.is_dir() else image), *science]
    program, oldest_python = _program_files()
    files = (*program, *science)
    with new_folder(out) as folder:
        for file in files:
            write(folder / file.name, file.content, executable=file.main_program)
        write(folder / VERSION_FILE, version_xml(files).encode(), executable=False)
        _prove(folder / files[0].name)
    return Bundle(out, files, oldest_python)


def _program_files() -> tuple[list[BundleFile], tuple[int, int]]:
    """Return the main program and its parts, and the oldest Python that runs it."""
    found = collect_modules()
    sources = {name: data for name, data in found.files.items() if name.endswith(".py")}
    compiled = {f"{name}c": data for name, data in compile_all(sources).items()}
    modules = bundle_file(f"vmbridge_{__version__}", archive({**found.files, **compiled}), suffix=".zip")
    extensions = {
        module: bundle_file(module.rpartition(".")[2], path.read_bytes(), suffix=".so")
        for module, path in found.extensions.items()
    }
    text = main_program(modules.name, {module: file.name for module, file in extensions.items()}, found.oldest_python)
    program = bundle_file(f"vmbridge-app_{__version__}", text, main_program=True)
    return [program, modules, *extensions.values()], found.oldest_python


def _image_files(image: Image, manifest: Path) -> list[BundleFile]:
    """Return the image's files, having compared them with what its manifest promises."""
    promised = json.loads(manifest.read_bytes()).get("sha256")
    for path in image.files:
        if isinstance(promised, dict) and promised.get(path.name) not in (None, digest_of(path)):
            raise ImageError(f"{path} is not what {manifest} promises. Build the image again")
    return [given_file(path, f"{IMAGE}/{path.name}") for path in (manifest, *image.files)]


def _vbox_files(file: Path, tasks: Sequence[MachineTask], image: Path | None, more: Sequence[Path]) -> list[BundleFile]:
    """Return the disk, the job file and `more` of an application as BOINC's vboxwrapper has it."""
    if image is None:
        raise JobFileError(file, 0, "", f"needs the disk that is {VM_IMAGE} in a slot. Name its file: --image FILE")
    load_disk(image)
    for task in tasks:
        if task.plain is not None and task.plain.multiattach_vdi_file is not None:
            raise JobFileError(
                file, 0, "multiattach_vdi_file", f"is not needed: a disk is never copied. Leave it out for {VM_IMAGE}"
            )
    return [given_file(image, VM_IMAGE), given_file(file, VBOX_JOB_FILE), *_more_files(file, (), None, more)]


def _more_files(
    file: Path, tasks: Sequence[MachineTask], image: Image | None, more: Sequence[Path]
) -> list[BundleFile]:
    """Return `more`, having tried what can be tried of the job without a slot."""
    if tasks and image is None:
        raise JobFileError(file, 0, "virtualmachine", "needs an image. Name its folder: --image DIR")
    for task in tasks:
        if file.parent / IMAGE not in task.images:
            problem = (
                f"{task.image} is not where a bundle has its image. Write <image>{IMAGE}</image>; for `vmbridge run`, "
                "put a link of that name into the job directory"
            )
            raise JobFileError(file, 0, "image", problem)
    programs = {task.application for task in tasks if task.copies_application}
    for path in more:
        if not path.is_file():
            raise HostError(f"{path} is no file, so it cannot be put into the bundle")
        if path.name in (IMAGE, VBOX_JOB_FILE, VM_IMAGE) or is_taken(path.name):
            raise HostError(f"{path.name} is a name that the bridge or the BOINC client uses itself. Rename it")
        if path.name in programs and image is not None and image.static_programs_only:
            refuse_dynamic(path)
    names = [path.name for path in more]
    if twice := {name for name in names if names.count(name) > 1}:
        raise HostError(f"two files are called {min(twice)}, and the application could find only one. Rename one")
    return [given_file(path, path.name) for path in more]


def _prove(program: Path) -> None:
    """Start the program as it lies there, without what is installed here.

    :raise HostError: it does not run: a package was left out, or has changed.
    """
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-IS", program, "--version"],
            cwd=empty,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode or done.stdout.split() != ["vmbridge-app", __version__]:
        raise HostError(f"the bundle does not run: {(done.stdout + done.stderr).strip()[-600:]}")
