"""libvirt's Python module: where it is, a thread for its events, and calls that may hang.

Every call of the library waits for a daemon, which may be stopped or swapped out. So each is made in a thread of its
own that nobody waits for longer than a bound, and that keeps no process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Any, TypeVar

from ...errors import CommandFailed, NotInstalled

Answer = TypeVar("Answer")

CALL_WITHIN_S = 60.0
LONG_CALL_WITHIN_S = 300.0
"""A libvirt whose QEMU may not open a /dev/kvm that is there probes it again for each machine, for 80 seconds."""

_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
SYSTEM_FOLDERS = (
    "/usr/lib/python3/dist-packages",
    f"/usr/lib64/{_VERSION}/site-packages",
    f"/usr/lib/{_VERSION}/site-packages",
)
"""Where distributions put it: Debian; Red Hat and SUSE; Arch."""

_MODULES = ("libvirtmod", "libvirt", "libvirtmod_qemu", "libvirt_qemu")


@cache
def binding() -> tuple[Any, Any]:
    """Return the modules `libvirt` and `libvirt_qemu`, with their events running, for the rest of the process.

    They are a compiled extension for one version of Python, so no bundle can bring them, and a virtual environment or
    a bundle does not see the system's. So they are looked for there, too; of another Python's they are not found.

    :raise NotInstalled: they are nowhere.
    """
    try:
        libvirt, libvirt_qemu = import_module("libvirt"), import_module("libvirt_qemu")
    except ModuleNotFoundError:
        libvirt, libvirt_qemu = [load(name) for name in _MODULES][1::2]
    libvirt.registerErrorHandler(lambda _, error: None, None)  # it would print them
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, args=(libvirt,), name="libvirt events", daemon=True).start()
    return libvirt, libvirt_qemu


def load(name: str, folders: Sequence[str] = SYSTEM_FOLDERS) -> Any:
    """Return the module `name`, from one of `folders` if it is not imported already.

    :raise NotInstalled: it is in none of them, or is another Python's there.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = PathFinder.find_spec(name, folders)
    if spec is None or spec.loader is None:
        from ..reasons import find  # only where there is something to be said

        raise NotInstalled(find("libvirt-library", version=platform.python_version()).sentence)
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def is_here() -> bool:
    """Say whether `binding` would find the modules, without loading them."""
    return PathFinder.find_spec("libvirtmod_qemu", [*sys.path, *SYSTEM_FOLDERS]) is not None


def _run_events(libvirt: Any) -> None:
    while True:
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()


async def call(doing: str, function: Callable[..., Answer], *arguments: Any, within_s: float = CALL_WITHIN_S) -> Answer:
    """Call a function of the library in a thread and return its answer. Who is cancelled leaves the call behind.

    :raise CommandFailed: it failed, or there was no answer in this time; `doing` is in the message.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()

    def run() -> None:
        try:
            hand_over(loop, partial(_settle, future, None, function(*arguments)))
        except Exception as error:
            hand_over(loop, partial(_settle, future, error, None))

    threading.Thread(target=run, name=f"libvirt: {doing}", daemon=True).start()
    try:
        return await asyncio.wait_for(future, within_s)
    except asyncio.TimeoutError:
        raise CommandFailed(f"libvirt has not answered in {within_s:g} seconds ({doing}): its daemon hangs") from None
    except Exception as error:
        raise CommandFailed(f"libvirt failed at {doing}: {error}") from error


def hand_over(loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> None:
    """Have `loop` do something, from another thread; one that has ended has no use for it."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(work)


def _settle(future: asyncio.Future[Any], error: Exception | None, answer: Any) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)
