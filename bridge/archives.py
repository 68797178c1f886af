"""The archives of a job: unpacked into its directory before anything runs, packed from it when all is done.

As BOINC's wrapper does it: what is packed are the files in the slot itself whose names match one of the patterns
anywhere, and that were not there when the first task began, which is what `initial_file_list` is for.
"""

from __future__ import annotations

import errno
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable
from logging import getLogger
from pathlib import Path, PurePosixPath
from typing import IO

from protocol.errors import RemoteProtocolError
from protocol.files import Door, sync_file, sync_folder, unfinished, write_atomic

from .client.graphics import GRAPHICS_STATUS
from .done import DONE
from .errors import GuestError, JobFileError, host_trouble
from .job import Job
from .job.names import is_taken
from .job.patterns import file_pattern

logger = getLogger(__name__)

Pace = Callable[[], None]
"""What is called again and again while an archive is worked on: it waits while that is to stand still, and raises what
ends it."""

INITIAL_FILES = "initial_file_list"
_LIST_LIMIT = 16 << 20
_LINK_LIMIT = 1 << 16
_PIECE = 1 << 18

_UNFINISHED = frozenset(unfinished(Path(name)).name for name in (DONE, INITIAL_FILES, GRAPHICS_STATUS))
"""These come and go while files are packed."""


_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, ValueError)
"""What is raised for an archive that is not as it should be."""

_IN_THE_WAY = frozenset({None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""The numbers of errors that are not the disk's but the archive's; what is broken in a .bz2 has none."""


def unpack(job: Job, pace: Pace) -> None:
    """Unpack the archives of `job`, over what is there, and note what its directory holds then, unless that was noted.
    Results that are packed already are an older run's, of which nothing is recorded; they go.

    The archives themselves stay. May be called again, also by a job that begins anew, and after `pace` has ended it:
    the same comes out. One of which the slot knows nothing is left out: not every work unit may have it.

    :raise JobFileError: one is broken, encrypted, or would write over a file of the bridge or the client.
    :raise HostError: the disk does not allow it.
    """
    for name in job.unzip_input:
        path = job.path(name)
        if not os.path.lexists(job.directory / name):
            logger.warning("there is no %s to be unpacked", name)
            continue
        if not path.is_file():
            raise JobFileError(job.file, 0, "unzip_input", f"{name} stands for {path}, which does not exist")
        try:
            with host_trouble(f"unpack {name}"), zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    pace()  # there may be many in which there is nothing
                    try:
                        _unpack_member(job, name, archive, member, pace)
                    except OSError as error:
                        if error.errno not in _IN_THE_WAY:
                            raise
                        raise ValueError(f"{member.filename!r}: {error.strerror or error}") from error
        except _BROKEN as error:
            raise JobFileError(job.file, 0, "unzip_input", f"{name} cannot be unpacked: {error}") from error
    if job.zip_output is not None:
        with host_trouble(f"remove an older {job.zip_output.zipfilename}"):
            job.path(job.zip_output.zipfilename).unlink(missing_ok=True)
    if job.zip_output is not None and not (job.directory / INITIAL_FILES).exists():
        with host_trouble(f"write {INITIAL_FILES}"):
            names = sorted(os.listdir(job.directory))
            data = "".join(f"{name}\n" for name in names if "\n" not in name)
            write_atomic(job.directory / INITIAL_FILES, os.fsencode(data), durable=True)


def _unpack_member(job: Job, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, pace: Pace) -> None:
    if not member.filename:
        raise ValueError("it holds a file without a name")
    target = job.directory / member.filename
    slot = Path(os.path.realpath(job.directory))
    there = Path(os.path.realpath(target.parent), target.name)  # the archive may hold links to folders
    if ".." in PurePosixPath(member.filename).parts or not there.is_relative_to(slot):
        problem = f"{name} holds {member.filename!r}, which would lie outside of the job's directory"
        raise JobFileError(job.file, 0, "unzip_input", problem)
    if any(map(is_own, there.relative_to(slot).parts[:1])):
        problem = f"{name} holds {member.filename!r}, a name that the bridge or the BOINC client uses itself"
        raise JobFileError(job.file, 0, "unzip_input", problem)
    mode = member.external_attr >> 16
    if not member.is_dir():
        target.unlink(missing_ok=True)  # it may not be writable, or be a link
    if stat.S_ISLNK(mode):
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source:
            to = os.fsdecode(source.read(_LINK_LIMIT))  # too long for any system, where it is longer
        if not to:
            raise ValueError(f"{member.filename!r} is a link to nothing")
        target.symlink_to(to)
        if not _inside(job.directory, target):
            target.unlink()
            problem = f"{name} holds {member.filename!r}, a link that leads out of the job's directory"
            raise JobFileError(job.file, 0, "unzip_input", problem)
        return
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as made:
            _copy(source, made, pace)
    if permissions := mode & 0o777:
        target.chmod(permissions | stat.S_IRWXU if member.is_dir() else permissions)


def _inside(folder: Path, path: Path) -> bool:
    """Say whether what `path` leads to, which need not be there, lies in `folder`."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def pack(job: Job, pace: Pace) -> None:
    """Pack the results of `job`, if it says so and they are not packed yet; on the disk when this returns.

    When `pace` ends it there is no archive.

    :raise GuestError: there is nothing to be packed: the programs have not made what they should.
    :raise HostError: the disk does not allow it; there is no archive then.
    """
    wanted = job.zip_output
    if wanted is None or (archive := job.path(wanted.zipfilename)).exists():
        return
    with host_trouble(f"pack {wanted.zipfilename}"):
        patterns = [file_pattern(pattern) for pattern in wanted.patterns]
        half = unfinished(archive)
        before = _initial_files(job.directory) | {wanted.zipfilename, half.name}
        names = [entry.name for entry in os.scandir(job.directory) if entry.is_file(follow_symlinks=False)]
        new = [name for name in sorted(names) if name not in before and not is_own(name)]
        found = [name for name in new if any(pattern.search(name) for pattern in patterns)]
        if not found:
            raise GuestError(
                f"nothing can be packed into {wanted.zipfilename}: the job has made no file whose name matches"
                f" {' or '.join(map(repr, wanted.patterns)) or 'a <filename>'}"
            )
        try:
            _write(half, job.directory, found, pace)
            half.replace(archive)
            sync_folder(archive.parent)
        except BaseException:
            half.unlink(missing_ok=True)
            raise


def _write(path: Path, folder: Path, names: list[str], pace: Pace) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            member = zipfile.ZipInfo.from_file(folder / name, name, strict_timestamps=False)
            member.compress_type = zipfile.ZIP_DEFLATED
            with (folder / name).open("rb") as source, archive.open(member, "w") as packed:
                _copy(source, packed, pace)
    sync_file(path)


def _copy(source: IO[bytes], target: IO[bytes], pace: Pace) -> None:
    while piece := source.read(_PIECE):
        pace()
        target.write(piece)


def _initial_files(folder: Path) -> set[str]:
    try:
        with Door(folder) as door:
            return set(os.fsdecode(door.read(INITIAL_FILES, _LIST_LIMIT) or b"").splitlines())
    except RemoteProtocolError:
        return set()


def is_own(name: str) -> bool:
    """Say whether a name in a job directory is the bridge's own or the client's."""
    return is_taken(name) or name in _UNFINISHED or name.startswith(".vmbridge")
