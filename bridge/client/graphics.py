"""The file in the slot that tells a job's graphics program how the job goes, as BOINC's library writes and reads it.

A job file asks for it (`<enable_graphics_support/>`). The graphics program is the project's own: the client starts it
in the slot, and it reads the file when it draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from protocol.files import write_atomic

logger = getLogger(__name__)

GRAPHICS_STATUS = "graphics_status.xml"

_SAID = ("no_heartbeat", "suspended", "quit_request", "abort_request", "network_suspended")


@dataclass(frozen=True, slots=True)
class GraphicsStatus:
    """What the file says: seconds over all starts of the job, 0 to 1, and what the client has said."""

    cpu_time: float = 0.0
    elapsed_time: float = 0.0
    fraction_done: float = 0.0
    no_heartbeat: bool = False
    suspended: bool = False
    quit_request: bool = False
    abort_request: bool = False
    network_suspended: bool = False

    def encode(self, updated_time: float) -> bytes:
        """Return the file's content; `updated_time` is when it is written, in seconds since 1970."""
        said = "".join(f"        <{name}>{int(getattr(self, name))}</{name}>\n" for name in _SAID)
        return (
            "<graphics_status>\n"
            f"    <updated_time>{updated_time:f}</updated_time>\n"
            f"    <cpu_time>{self.cpu_time:f}</cpu_time>\n"
            f"    <elapsed_time>{self.elapsed_time:f}</elapsed_time>\n"
            f"    <fraction_done>{self.fraction_done:f}</fraction_done>\n"
            f"    <boinc_status>\n{said}    </boinc_status>\n"
            "</graphics_status>\n"
        ).encode()


class Graphics:
    """The file, for as long as the job runs; afterwards it stays as it is, as that of BOINC's wrapper does."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` says the seconds since 1970."""
        self._file = directory / GRAPHICS_STATUS
        self._clock = clock
        self._written: GraphicsStatus | None = None
        self._told = False

    def show(self, status: GraphicsStatus) -> None:
        """Write `status` if it is news. A disk that is full costs nobody the job."""
        if status == self._written:
            return
        try:
            write_atomic(self._file, status.encode(self._clock()), durable=False)
        except OSError as error:
            if not self._told:
                logger.warning("the graphics cannot be told how the job goes: %s", error.strerror)
            self._told = True
        else:
            self._written = status
