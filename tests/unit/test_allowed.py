"""What a heartbeat allows: the network, and memory for the machine. The real side of the client, a life that notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.client.app_ipc import Heartbeat
from bridge.client.init_data import InitData
from bridge.for_client import _ClientSide
from bridge.job import Job, MachineTask
from bridge.options import Options
from bridge.verdict import TemporaryExit

FILE = Path("/slot/job.xml")


@dataclass
class NotingLife:
    """Notes what is asked of it."""

    asked: list[object] = field(default_factory=list)

    def connect(self, connected: bool) -> None:
        self.asked.append(connected)

    def quit(self) -> None:
        self.asked.append("quit")


def side(**job: Any) -> tuple[_ClientSide, list[object]]:
    """The client's side of a job that runs, and what is asked of its life."""
    found = _ClientSide(
        None, InitData(), Job(FILE, (MachineTask(FILE, "vm", Path("image"), "worker", **job),)), None, Options()
    )
    life = NotingLife()
    found._life = cast(Any, life)
    return found, life.asked


def test_the_network_is_given_and_cut_when_that_changes() -> None:
    found, asked = side(network=True)
    for suspended in (True, True, False, False, True):
        found.hear(Heartbeat(network_suspended=suspended))
    assert asked == [True, False], "it begins without, until the client has spoken"


MB = 1024.0 * 1024.0


def test_a_machine_that_fits_is_not_asked_again() -> None:
    """A running machine cannot shrink. The client itself ends what does not fit, and knows better in what order."""
    found, asked = side(memory_mb=512)
    found.hear(Heartbeat())
    found.hear(Heartbeat(max_wss=512 * MB))
    found.hear(Heartbeat(max_wss=100 * MB))
    assert "quit" not in asked and found.postponed is None


def test_a_machine_that_does_not_fit_is_postponed_and_the_reason_told() -> None:
    found, asked = side(memory_mb=4096)
    found.hear(Heartbeat(max_wss=2000 * MB))
    assert asked[-1] == "quit", "not an error: what a checkpoint holds is kept"
    assert isinstance(found.postponed, TemporaryExit) and found.postponed.delay_s == 3600
    assert found.postponed.reason.startswith("the machine needs 4,096 MB of memory, and BOINC may use 2,000 MB now. ")


@pytest.mark.parametrize("heartbeat", [Heartbeat(), Heartbeat(max_wss=1.0, network_suspended=True)])
def test_the_end_of_a_job_whose_machine_is_gone_already(heartbeat: Heartbeat) -> None:
    _ClientSide(None, InitData(), None, None, Options()).hear(heartbeat)
