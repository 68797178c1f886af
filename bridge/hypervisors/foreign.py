"""Processes that are not our children: whether one lives, what it is told, when it ends, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable

import psutil

from ..errors import CommandFailed, NotPermitted

_GONE_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.5


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


async def tell(lives: Callable[[], bool], say: Callable[[], Awaitable[object]]) -> None:
    """Tell a machine something, by whatever speaks to it; one that has ended by itself is not told anything.

    :raise CommandFailed: it was not told, and lives.
    """
    try:
        if lives():
            await say()
    except CommandFailed:
        if lives():
            raise


async def gone_within(process: psutil.Process, seconds: float) -> bool:
    """Return True as soon as a process has ended, False if it has not in this time.

    On Linux the kernel tells (a pidfd); elsewhere it is looked for twice a second.
    """
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return True
        except OSError:  # a kernel before 5.3
            return await _looked_for(process, seconds)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            if is_alive(process):  # and the number is not another's by now
                await asyncio.wait_for(ended.wait(), seconds)
            return True
        except asyncio.TimeoutError:
            return False
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
    return await _looked_for(process, seconds)


async def _looked_for(process: psutil.Process, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() >= until:
            return False
        await asyncio.sleep(min(_LOOK_EVERY_S, seconds))
    return True


async def kill(process: psutil.Process) -> None:
    """End a process; returns when it is gone.

    :raise NotPermitted: it is somebody else's.
    :raise CommandFailed: the kernel cannot end it.
    """
    until = time.monotonic() + _GONE_WITHIN_S
    while is_alive(process):
        try:
            process.kill()
        except psutil.AccessDenied as error:
            raise NotPermitted(f"the machine (process {process.pid}) may not be ended by this user") from error
        except psutil.NoSuchProcess:
            return
        if time.monotonic() >= until:
            raise CommandFailed(f"the machine (process {process.pid}) was killed and has not ended")
        await asyncio.sleep(0.01)
