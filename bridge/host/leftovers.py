"""End what a killed bridge has left of a job: processes are known by a word in their environment.

A keeper ends its program when the bridge is killed. But whoever kills can kill the keeper too: the client sends SIGKILL
to all that it sees below a program that does not end, and what the kernel's killer takes is out of anybody's hands.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from logging import getLogger
from pathlib import Path

import psutil

logger = getLogger(__name__)

MARK = "VMBRIDGE_TASK"
"""The variable: `NAME:SLOT`, where NAME is one tree's and SLOT the absolute path of the job's directory."""

_ENDED_WITHIN_S = 20.0
_BETWEEN_S = 0.02


def mark(name: str, slot: Path) -> str:
    """Return the word by which the processes of one tree are known."""
    return f"{name}:{os.path.abspath(slot)}"


def end_leftovers(slot: Path) -> list[int]:
    """End all processes of this user that an earlier bridge has started for the job in `slot`.

    To be called by the owner of the job, before it starts anything. May take seconds. Returns the numbers of those that
    cannot be ended.
    """
    where = os.path.abspath(slot)
    return end_marked(lambda word: word.partition(":")[2] == where)


def end_marked(is_ours: Callable[[str], bool]) -> list[int]:
    """End all processes of this user with such a mark, but for this one and those that it descends from.

    Returns the numbers of those that cannot be ended.
    """
    kept = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    ended: set[int] = set()
    deadline = time.monotonic() + _ENDED_WITHIN_S
    while (left := [process for process in marked(is_ours) if process.pid not in kept]) and (
        time.monotonic() < deadline
    ):
        for end in (psutil.Process.suspend, psutil.Process.kill):  # first all stand still, so that none starts another
            for process in left:
                with contextlib.suppress(psutil.Error):  # which compares when a process was started
                    end(process)
        ended.update(process.pid for process in left)
        time.sleep(_BETWEEN_S)
    pids = [process.pid for process in left]
    if pids:
        logger.warning("processes that an earlier start has left cannot be ended: %s", pids)
    elif ended:
        logger.info("%d processes that an earlier start had left were ended", len(ended))
    return pids


def marked(is_ours: Callable[[str], bool]) -> list[psutil.Process]:
    """Return the processes of this user with such a mark."""
    user = psutil.Process().username()
    found = []
    for process in psutil.process_iter():
        try:
            word = process.environ().get(MARK)
            if word is not None and is_ours(word) and process.username() == user:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
