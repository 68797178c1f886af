"""What the programs of this host have left is on the disk before it is recorded that they are done.

Nobody else sees to that: few programs sync their files, and a power cut would leave a record of work that is gone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from protocol.files import sync_folder

from .errors import host_trouble
from .job import Job
from .workplace import MACHINE, MARK, SHARED

_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def settle(job: Job) -> None:
    """Make durable what lies in the directory of `job`, but for its machine, and what names there stand for elsewhere.

    :raise HostError: the disk does not allow it.
    """
    with host_trouble("make durable what the programs have left"):
        for folder, folders, names in os.walk(job.directory):
            if Path(folder) == job.directory:
                folders[:] = [name for name in folders if name not in (SHARED, MACHINE) and not name.startswith(MARK)]
            for name in names:
                _sync(Path(folder, name))
            sync_folder(Path(folder))
        elsewhere = {path for name in os.listdir(job.directory) if (path := job.path(name)) != job.directory / name}
        for path in filter(Path.is_file, elsewhere):
            _sync(path)
            sync_folder(path.parent)


def _sync(path: Path) -> None:
    try:
        fd = os.open(path, _OPEN)
    except OSError:  # gone, a link, or not for us to read
        return
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fsync(fd)
    finally:
        os.close(fd)
