"""`vmbridge-app`: what the BOINC client starts as the science application, in a slot.

It is a native application in the client's eyes. In order:

1. If the slot has a finish file, the job is over: exit with its code.
2. Say hello: the first status goes out before anything else is even imported.
3. Lock the slot. If the results are home already, go to 5.
4. Run the job, steered by the client and by signals: results to their places, a record of it, the machine goes.
5. The client has taken the last status; finish file; exit.

Without `init_data.xml` no client has started it (standalone): the same, with nobody to report to.

This module imports nothing that the first status does not need; steps 3 to 5 are in `for_client`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .client.app_ipc import AppIpc, AppStatus
from .client.init_data import InitData, Unreadable, read_init_data
from .client.shmem import attach
from .client.slot import Slot, exit_status

_LATER_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job in the current directory; returns the exit status.

    `argv` is the command line after the program's name. Must be called in the main thread, once in a process.
    """
    # The client's sockets and log files: held open here, they would keep the next client from starting.
    os.closerange(3, 256)
    slot = Slot(Path.cwd())
    try:
        if (code := slot.finished()) is not None:
            return exit_status(code)
        init_data = read_init_data(slot.directory)
        ipc = None if init_data is None else _hello(init_data, slot)
    except (Unreadable, OSError) as error:
        return _later(slot, f"the client cannot be talked to: {error}")
    try:
        from .for_client import run

        return run(slot, init_data, ipc, sys.argv[1:] if argv is None else argv)
    except OSError as error:  # a full disk under the lock, a module that cannot be read: not the job's fault
        return _later(slot, f"the job cannot begin: {error}")


def _later(slot: Slot, reason: str) -> int:
    """Ask the client to start the job again; any other exit would be an error of the job."""
    with contextlib.suppress(OSError):  # where nothing can be written, the client starts us again at once
        print(f"vmbridge-app: {reason}", file=sys.stderr)
    with contextlib.suppress(OSError):
        slot.exit_temporarily(_LATER_S, reason)
    return 0


def _hello(init_data: InitData, slot: Slot) -> AppIpc:
    ipc = AppIpc(attach(init_data, slot.directory))
    ipc.app_status.send(AppStatus(init_data.wu_cpu_time, init_data.wu_cpu_time).encode())
    return ipc


def console_script() -> None:
    """Run the job and exit; for development, where pip makes the program."""
    raise SystemExit(main())
