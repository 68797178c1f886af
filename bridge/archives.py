"""The archives of a job: unpacked into its directory before anything runs, packed from it when all is done.

As BOINC's wrapper does it: what is packed are the files in the slot itself whose names match one of the patterns
anywhere, and that were not there when the first task began, which is what `initial_file_list` is for.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from protocol.errors import RemoteProtocolError
from protocol.files import Door, sync_file, sync_folder, unfinished, write_atomic

from .errors import JobFileError, host_trouble
from .job import Job
from .job.patterns import file_pattern
from .job.schema import OWN_NAMES

INITIAL_FILES = "initial_file_list"
_LIST_LIMIT = 16 << 20


def unpack(job: Job) -> None:
    """Unpack the archives of `job`, over what is there, and note what its directory holds then.

    The archives themselves stay. May be called again: the same comes out.

    :raise JobFileError: one is missing, broken, encrypted, or would write over a file of the bridge or the client.
    :raise HostError: the disk does not allow it.
    """
    for name in job.unzip_input:
        path = job.path(name)
        if not path.is_file():
            raise JobFileError(job.file, 0, "unzip_input", f"{path} does not exist. Put it into the job directory")
        try:
            with host_trouble(f"unpack {name}"), zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    _unpack_member(job, name, archive, member)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
            raise JobFileError(job.file, 0, "unzip_input", f"{name} cannot be unpacked: {error}") from error
    if job.zip_output is not None:
        with host_trouble(f"write {INITIAL_FILES}"):
            names = sorted(os.listdir(job.directory))
            data = "".join(f"{name}\n" for name in names if "\n" not in name)
            write_atomic(job.directory / INITIAL_FILES, os.fsencode(data), durable=True)


def _unpack_member(job: Job, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    parts = member.filename.split("/")
    if member.filename.startswith("/") or ".." in parts or "\0" in member.filename:
        problem = f"{name} holds {member.filename!r}, which would lie outside of the job's directory"
        raise JobFileError(job.file, 0, "unzip_input", problem)
    if is_own(parts[0]):
        problem = f"{name} holds {member.filename!r}, a name that the bridge or the BOINC client uses itself"
        raise JobFileError(job.file, 0, "unzip_input", problem)
    target = Path(archive.extract(member, job.directory))
    mode = (member.external_attr >> 16) & 0o777
    if mode and not member.is_dir():
        target.chmod(mode | stat.S_IRUSR | stat.S_IWUSR)


def pack(job: Job) -> None:
    """Pack the results of `job`, if it says so and they are not packed yet; on the disk when this returns.

    :raise HostError: the disk does not allow it; there is no archive then.
    """
    wanted = job.zip_output
    if wanted is None or (archive := job.path(wanted.zipfilename)).exists():
        return
    with host_trouble(f"pack {wanted.zipfilename}"):
        patterns = [file_pattern(pattern) for pattern in wanted.patterns]
        before = _initial_files(job.directory) | {wanted.zipfilename}
        names = [entry.name for entry in os.scandir(job.directory) if entry.is_file(follow_symlinks=False)]
        found = (name for name in sorted(names) if name not in before and not is_own(name))
        half = unfinished(archive)
        try:
            _write(half, job.directory, (name for name in found if any(pattern.search(name) for pattern in patterns)))
            half.replace(archive)
            sync_folder(archive.parent)
        except BaseException:
            half.unlink(missing_ok=True)
            raise


def _write(path: Path, folder: Path, names: Iterable[str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for name in names:
            archive.write(folder / name, name)
    sync_file(path)


def _initial_files(folder: Path) -> set[str]:
    try:
        with Door(folder) as door:
            return set(os.fsdecode(door.read(INITIAL_FILES, _LIST_LIMIT) or b"").splitlines())
    except RemoteProtocolError:
        return set()


def is_own(name: str) -> bool:
    """Say whether a name in a job directory is the bridge's own or the client's."""
    return name in OWN_NAMES or name.startswith(("boinc_", ".vmbridge"))
