"""What a job's graphics program is told: in the form of BOINC's library, when there is news, if the job asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.client.app_ipc import Heartbeat
from bridge.client.graphics import GRAPHICS_STATUS, Graphics, GraphicsStatus
from bridge.client.init_data import InitData
from bridge.for_client import _ClientSide, show_graphics
from bridge.job import HostTask, Job
from bridge.life.accounting import Progress
from bridge.options import Options

from ..patience import until

AS_THE_LIBRARY_WRITES_IT = """\
<graphics_status>
    <updated_time>1795691396.628533</updated_time>
    <cpu_time>12.500000</cpu_time>
    <elapsed_time>34.250000</elapsed_time>
    <fraction_done>0.500000</fraction_done>
    <boinc_status>
        <no_heartbeat>0</no_heartbeat>
        <suspended>1</suspended>
        <quit_request>0</quit_request>
        <abort_request>0</abort_request>
        <network_suspended>0</network_suspended>
    </boinc_status>
</graphics_status>
"""
"""By boinc_write_graphics_status() of Debian's libboinc_api 7.20.5, with `suspended` set."""


def test_the_form_is_that_of_the_library() -> None:
    status = GraphicsStatus(12.5, 34.25, 0.5, suspended=True)
    assert status.encode(1795691396.628533).decode() == AS_THE_LIBRARY_WRITES_IT


def test_written_when_there_is_news(tmp_path: Path) -> None:
    now = [1.0]
    graphics, file = Graphics(tmp_path, clock=lambda: now[0]), tmp_path / GRAPHICS_STATUS
    graphics.show(GraphicsStatus(fraction_done=0.5))
    now[0] = 2.0
    graphics.show(GraphicsStatus(fraction_done=0.5))
    assert "<updated_time>1.000000<" in file.read_text()
    graphics.show(GraphicsStatus(fraction_done=0.75))
    assert "<updated_time>2.000000<" in file.read_text() and "<fraction_done>0.750000<" in file.read_text()


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graphics = Graphics(tmp_path / "later")
    for _ in range(2):
        graphics.show(GraphicsStatus())
    assert caplog.text.count("the graphics cannot be told") == 1
    (tmp_path / "later").mkdir()
    graphics.show(GraphicsStatus())
    assert (tmp_path / "later" / GRAPHICS_STATUS).exists()


def side(folder: Path, *, graphics: bool = True, **init_data: float) -> _ClientSide:
    job = Job(folder / "job.xml", (HostTask("worker"),), graphics=graphics)
    return _ClientSide(None, InitData(**init_data), job, None, Options())  # type: ignore[arg-type]


ORDERS: list[tuple[str, Callable[[_ClientSide], None], int]] = [
    ("suspended", lambda side: side.suspend(), 1),
    ("suspended", lambda side: side.resume(), 0),
    ("no_heartbeat", lambda side: side.fear(), 1),
    ("no_heartbeat", lambda side: side.hope(), 0),
    ("network_suspended", lambda side: side.hear(Heartbeat(network_suspended=True)), 1),
    ("network_suspended", lambda side: side.hear(Heartbeat()), 0),
    ("quit_request", lambda side: side.quit("the client says quit"), 1),
    ("abort_request", lambda side: side.abort(), 1),
]


def test_what_the_client_says_is_in_the_file(tmp_path: Path) -> None:
    asked, graphics = side(tmp_path), Graphics(tmp_path)
    for name, order, value in ORDERS:
        order(asked)
        graphics.show(asked.drawn)
        assert f"<{name}>{value}</{name}>" in (tmp_path / GRAPHICS_STATUS).read_text()


def test_figures_are_those_of_all_starts(tmp_path: Path) -> None:
    asked = side(tmp_path, wu_cpu_time=5.0, fraction_done_start=0.5)
    asked.progress(Progress(cpu_seconds=2.0, run_seconds=9.0, fraction_done=None))
    assert asked.drawn == GraphicsStatus(5.0, 9.0, 0.0)
    asked.progress(Progress(cpu_seconds=6.0, run_seconds=10.0, fraction_done=0.25))
    assert asked.drawn == GraphicsStatus(6.0, 10.0, 0.25)


def test_the_newest_is_shown_in_the_end(tmp_path: Path) -> None:
    """What comes within a second after a writing is not forgotten."""
    status = [GraphicsStatus()]

    async def go() -> None:
        showing = asyncio.create_task(show_graphics(Graphics(tmp_path), lambda: status[0]))
        for fraction in (0.0, 0.25, 0.5):
            status[0] = GraphicsStatus(fraction_done=fraction)
            await asyncio.sleep(0)
        await asyncio.to_thread(until, lambda: "0.500000" in (tmp_path / GRAPHICS_STATUS).read_text())
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing

    (tmp_path / GRAPHICS_STATUS).touch()
    asyncio.run(go())
