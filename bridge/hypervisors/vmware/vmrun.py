"""VMware's command `vmrun`: where it is, to which product it speaks, and what it says."""

from __future__ import annotations

import re
import shutil
import sys

from ...errors import HypervisorError, NotInstalled
from ..child import run_briefly

_CALL_WITHIN_S = 60.0


def kind() -> str:
    """Return which of its products vmrun is to speak to."""
    if sys.platform == "darwin":
        return "fusion"
    return "player" if shutil.which("vmplayer") and not shutil.which("vmware") else "ws"


def words(*more: object) -> list[str]:
    """Return a command line.

    :raise NotInstalled: there is no vmrun.
    :raise HypervisorError: nobody has written down how it is used here.
    """
    if sys.platform == "win32":
        raise HypervisorError("machines cannot be run by VMware on Windows yet. Choose qemu")
    return [_program(), "-T", kind(), *map(str, more)]


async def call(*more: object, within_s: float = _CALL_WITHIN_S) -> str:
    """Run vmrun and return what it printed.

    :raise CommandFailed: it failed, or has not ended in this time.
    """
    return await run_briefly(words(*more), within_s=within_s)


async def version() -> str:
    """Return the version of the product that vmrun is a part of, as vmrun tells it."""
    from ..survey import ask

    found = re.search(r"vmrun version (\d\S*(?: build-\d+)?)", (await ask(_program())).said)
    return "unknown" if found is None else found[1]


def _program() -> str:
    from ..survey import program

    vmrun = program("vmrun")
    if vmrun is None:
        from ..reasons import find

        raise NotInstalled(find("vmware-missing").sentence)
    return vmrun
