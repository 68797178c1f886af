"""The two programs that a client starts in its slot: ours as a project ships it, and the peer, BOINC's own wrapper."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.bundle import write_bundle

from ..standin import StandIn
from .scratch import IMAGE

WRAPPER = "BOINC_WRAPPER"
"""The variable that holds the path of BOINC's wrapper. It is not in Debian's packages; build it from BOINC's source."""

REAL_POLL_S = 1.0
WITHIN_S = 60.0

SLEEP = "#!/bin/sh\nexec sleep 1000\n"
_OUR_JOB = """\
<job_desc><task>
  <virtualmachine>bench</virtualmachine><image>image</image><application>worker</application>
</task></job_desc>
"""
_PEERS_JOB = """\
<job_desc><task>
  <application>worker</application><fraction_done_filename>fraction</fraction_done_filename>
</task></job_desc>
"""

Start = Callable[[], None]


def wrapper() -> Path | None:
    """Return the peer's program; None if there is none in this run."""
    path = os.environ.get(WRAPPER)
    return Path(path) if path and os.access(path, os.X_OK) else None


@contextmanager
def ours(
    folder: Path, hypervisor: str, drain_every_s: float, first_poll_s: float = 0.0, worker: str = SLEEP
) -> Iterator[tuple[StandIn, Start]]:
    """Lend a client with our bundle, under the system's Python, and what starts `worker` in a machine there.

    The client's "checkpoint at most every" is so long that none is taken.
    """
    job = folder / "job.xml"
    job.write_text(_OUR_JOB)
    with StandIn(
        folder / "ours", drain_every_s=drain_every_s, first_poll_s=first_poll_s, checkpoint_period=86_400.0
    ) as client:
        bundle = write_bundle(client.directory.project, image=IMAGE, job=job)
        for file in bundle.files:
            if file.open_name is not None:
                client.directory.link(file.open_name, file.name)
        client.directory.add("worker", worker)
        program = os.path.relpath(bundle.directory / bundle.files[0].name, client.slot)
        yield client, lambda: client.start(program, "--hypervisor", hypervisor)


@contextmanager
def peer(
    folder: Path, drain_every_s: float, first_poll_s: float = 0.0, worker: str = SLEEP
) -> Iterator[tuple[StandIn, Start] | None]:
    """Lend a client with BOINC's wrapper around a program; None if it is not here."""
    if (program := wrapper()) is None:
        yield None
        return
    with StandIn(folder / "peer", drain_every_s=drain_every_s, first_poll_s=first_poll_s) as client:
        client.directory.add("job.xml", _PEERS_JOB)
        client.directory.add("worker", worker).chmod(0o755)
        path = client.directory.program(program, "wrapper_1")
        yield client, lambda: client.start(path)
