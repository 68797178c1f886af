"""The service behind a machine of VirtualBox's, which is this machine's alone: its programs, and its end."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

import psutil

from ...errors import CommandFailed, Hindered, NotInstalled
from ...trees import remove_tree
from .plan import environment, machine_name, socket_folder

logger = getLogger(__name__)

_SERVICES = ("VBoxSVC", "VBoxXPCOMIPCD")
_MACHINES = ("VBoxHeadless", "VBoxManage")
_ENDED_WITHIN_S = 20.0
_BETWEEN_S = 0.02


def find(name: str) -> str:
    """Return where a program of VirtualBox's is.

    :raise NotInstalled: nowhere in PATH.
    """
    if (found := shutil.which(name)) is None:
        from ..reasons import find as reason  # only where there is something to be said

        raise NotInstalled(reason("virtualbox-missing", program=name).sentence)
    return found


def hangs(what: str) -> Hindered:
    """Return the error that says that the service does not answer; `what` is for the log."""
    from ..reasons import find as reason  # only where there is something to be said

    logger.warning("%s", what)
    return reason("vboxsvc").error()


def end_service(directory: Path) -> None:
    """End the service of the machine in `directory`, and the machine, if they still run. May take seconds.

    A service is ours by its registry, which lies in the folder; a machine, whose environment nobody can read because
    its program is privileged, by its name, which is made of the folder.

    :raise CommandFailed: something cannot be ended.
    """
    until = time.monotonic() + _ENDED_WITHIN_S
    while left := list(_ours(directory)):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if time.monotonic() >= until:
            raise CommandFailed(f"VirtualBox (process {left[0].pid}) was killed and has not ended")
        time.sleep(_BETWEEN_S)
    with contextlib.suppress(OSError):  # somebody else's, who may be in nobody's way
        remove_tree(socket_folder(directory))


def _ours(directory: Path) -> Iterator[psutil.Process]:
    home, name = environment(directory)["VBOX_USER_HOME"], machine_name(directory)
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            service = process.info["name"] in _SERVICES and process.environ().get("VBOX_USER_HOME") == home
            if service or (process.info["name"] in _MACHINES and name in process.cmdline()):
                yield process


def has_registry(directory: Path) -> bool:
    """Say whether VirtualBox was ever used for the machine in `directory`."""
    return Path(environment(directory)["VBOX_USER_HOME"]).exists()
