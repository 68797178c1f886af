"""Put program, inputs, agent, task and command where the guest finds them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from protocol import layout
from protocol.codec import encode
from protocol.files import write_atomic
from protocol.messages import Command, HostState, InitData

from ..copying import copy_content
from ..errors import ImageError, JobFileError, host_trouble
from ..image.elf import ENOUGH, needs_interpreter
from ..job import MachineTask
from ..job.model import SYSTEM_PACKAGES
from .folders import make_anew

EXECUTABLE = 0o755
PLAIN = 0o644


def stage_in(
    job: MachineTask,
    share: layout.Share,
    *,
    agent: bytes | None,
    static_only: bool,
    seq: int = 1,
    init_data: InitData | None = None,
    saved: Mapping[str, Path] | None = None,
) -> None:
    """Make the share anew and fill the host's part of it.

    `seq` is the number of the first command. `agent` is the agent's binary; None where nobody runs it. `static_only` is
    a property of the image: programs must bring all they need, and there is no system that could install any.
    `init_data` is what the client says of the job. The files that the program itself has `saved` are inputs too, and go
    before those of the same name.

    :raise JobFileError: the program or an input is missing.
    :raise ImageError: the program cannot run in this image, or a package cannot be installed in it.
    :raise HostError: a file could not be written.
    """
    saved = saved or {}
    task = job.task(saved)
    sources = dict(saved)
    if job.copies_application:
        sources[job.application] = _existing(job, job.application, "application")
    for element, names in (("copy_file_to_VM", task.input), ("package", task.package)):
        for name in names:
            if name not in sources:
                sources[name] = _existing(job, name, element)
    for name in job.results:
        if job.path(name).is_dir():
            raise JobFileError(job.file, 0, "copy_file_from_VM", f"{job.path(name)} is a folder. Move it away")
    if static_only and job.copies_application:
        refuse_dynamic(sources[job.application])
    if static_only:
        refuse_system_packages(job)
    with host_trouble("make the shared folder"):
        make_anew(share)
        folder = share.host / layout.IN
        folder.mkdir()
    # A hard link costs nothing, but only an export that the guest cannot write may hold one.
    may_link = share.host != share.guest
    for name, source in sources.items():
        is_program = job.copies_application and name == job.application
        put(source, folder / name, EXECUTABLE if is_program else PLAIN, may_link=may_link)
    if agent is not None:
        with host_trouble("write the guest's agent"):
            write_atomic(share.host / layout.AGENT, agent, durable=False)
            (share.host / layout.AGENT).chmod(EXECUTABLE)
    with host_trouble("write the task"):
        if init_data is not None:
            write_atomic(share.host / layout.INIT_DATA, encode(init_data), durable=False)
        write_atomic(share.host / layout.TASK, encode(task), durable=False)
        write_atomic(share.host / layout.COMMAND, encode(Command(seq, HostState.RUN, time.time())), durable=False)


def put(source: Path, target: Path, mode: int, *, may_link: bool) -> None:
    """Make `target` the same file as `source` where that is allowed and possible, else a copy of it.

    :raise HostError: it could not be read or written; nothing is left at `target`.
    """
    with host_trouble(f"stage {source}"):
        if may_link:
            try:
                os.link(source.resolve(), target)  # link(2) itself would link the link
                return
            except OSError:
                pass  # another file system, a foreign owner, no hard links: a copy does as well
        try:
            with source.open("rb") as reader, target.open("xb") as writer:
                copy_content(reader.fileno(), writer.fileno(), os.fstat(reader.fileno()).st_size)
            target.chmod(mode)
        except OSError:
            target.unlink(missing_ok=True)
            raise


def refuse_dynamic(program: Path) -> None:
    """Check that `program` needs no shared libraries.

    :raise ImageError: it does.
    """
    with host_trouble(f"read {program}"), program.open("rb") as file:
        interpreter = needs_interpreter(file.read(ENOUGH))
    if interpreter is not None:
        raise ImageError(
            f"{program} needs {interpreter} and shared libraries, which this image does not have. "
            "Programs for the tiny image are linked with -static."
        )


def refuse_system_packages(job: MachineTask) -> None:
    """Check that no package of `job` needs a whole system.

    :raise ImageError: one does.
    """
    for name in job.packages:
        if name.endswith(SYSTEM_PACKAGES):
            raise ImageError(
                f"<package>{name}</package> is installed by a tool of a whole system, which this image does not have. "
                "Build one with a Debian system (docs/images.md), or ship a tar."
            )


def _existing(job: MachineTask, name: str, element: str) -> Path:
    path = job.path(name)
    if not path.is_file():
        problem = "is no file" if path.exists() else "does not exist"
        raise JobFileError(job.file, 0, element, f"{path} {problem}. Put it into the job directory")
    return path
