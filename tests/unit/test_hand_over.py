"""The end of a job: the client has taken the last trickles before it sees the finish file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.client.app_ipc import SIZE, AppIpc
from bridge.client.init_data import InitData
from bridge.client.slot import Slot
from bridge.client.trickles import Trickles
from bridge.for_client import _TRICKLES_STALLED_S, _ClientSide, _spent, _tell_the_rest
from bridge.home import Home
from bridge.job import Job, MachineTask
from bridge.life.accounting import Progress, Spent
from bridge.options import Options
from bridge.verdict import Finish, Leave, Verdict

DONE = Finish(0, "finished")
HOME = Home(DONE.message, Progress(fraction_done=1.0, cpu_seconds=12.5, fpops=1e9))


def side() -> _ClientSide:
    return _ClientSide(None, InitData(), None, None, Options())


async def take(slot: Path, memory: memoryview, want: int) -> list[str]:
    """Be a client that takes `want` trickles."""
    ipc = AppIpc(memory)
    got: list[str] = []
    while len(got) < want:
        file = slot / "trickle_up.xml"
        if ipc.trickle_up.receive() and file.exists():
            got.append(file.read_text())
            file.unlink()
        await asyncio.sleep(0.01)
    return got


@pytest.mark.parametrize("clock_goes", [False, True], ids=["at once", "waits"])
def test_nothing_to_hand_over_takes_no_time(tmp_path: Path, clock_goes: bool) -> None:
    trickles = Trickles(tmp_path)
    if clock_goes:
        (tmp_path / "boinc_ufr_a").touch()
        trickles.begin(None)

    async def go() -> Verdict:
        waiting = asyncio.create_task(side().hand_over(trickles, DONE))
        await asyncio.sleep(0.25 if clock_goes else 0)
        assert waiting.done() is not clock_goes
        if clock_goes:
            (tmp_path / "boinc_ufr_a").unlink()
            trickles.due(mailbox_full=False)
        return await waiting

    assert asyncio.run(go()) == DONE


def test_a_client_that_takes_nothing_is_given_up_and_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    trickles = Trickles(tmp_path, lambda: now[0])
    for number in (1, 2):
        trickles.stage_trickle(number, "v", "text")
    trickles.release(2, 0)

    async def go() -> Verdict:
        waiting = asyncio.create_task(side().hand_over(trickles, DONE))
        await asyncio.sleep(0.25)
        assert not waiting.done()
        now[0] += _TRICKLES_STALLED_S
        return await waiting

    assert asyncio.run(go()) == DONE
    assert "2 trickles or uploads are lost" in caplog.text


@pytest.mark.parametrize(
    ("verdict", "expected"), [(DONE, Leave(0)), (Finish(5, "the program ended"), Finish(5, "the program ended"))]
)
def test_a_quit_meanwhile_leaves_the_rest_to_the_next_start(tmp_path: Path, verdict: Finish, expected: Verdict) -> None:
    trickles = Trickles(tmp_path)
    trickles.stage_trickle(1, "v", "text")
    trickles.release(1, 0)

    async def go() -> Verdict:
        asked = side()
        waiting = asyncio.create_task(asked.hand_over(trickles, verdict))
        await asyncio.sleep(0.15)
        asked.quit("the client says quit")
        return await waiting

    assert asyncio.run(go()) == expected
    assert (tmp_path / ".vmbridge.trickle_up.1").exists()


def test_the_next_start_hands_over_what_is_left_and_finishes(tmp_path: Path) -> None:
    left = Trickles(tmp_path)
    for number in (8, 9):
        left.stage_trickle(number, "v", f"text {number}")
    memory = memoryview(bytearray(SIZE))

    async def go() -> tuple[Verdict, list[str]]:
        finishing = _tell_the_rest(Slot(tmp_path), InitData(client_pid=1), AppIpc(memory), HOME)
        return await asyncio.gather(finishing, asyncio.wait_for(take(tmp_path, memory, 2), 60))

    verdict, got = asyncio.run(go())
    assert verdict == DONE
    assert got == ["<variety>v</variety>\ntext 8", "<variety>v</variety>\ntext 9"]


def told_at_the_next_start(slot: Path, home: Home) -> tuple[Verdict, bytes]:
    """What a client that lives hears last of a job whose results are home."""
    memory = memoryview(bytearray(SIZE))
    client = AppIpc(memory)

    async def go() -> tuple[Verdict, bytes]:
        finishing = asyncio.create_task(_tell_the_rest(Slot(slot), InitData(client_pid=1), AppIpc(memory), home))
        said = b""
        while not finishing.done():
            client.heartbeat.send("<heartbeat/>")
            said = client.app_status.receive() or said
            await asyncio.sleep(0.01)
        return await finishing, said

    return asyncio.run(go())


def test_the_next_start_tells_the_last_figures_first(tmp_path: Path) -> None:
    verdict, said = told_at_the_next_start(tmp_path, HOME)
    assert verdict == DONE
    assert b"<current_cpu_time>1.25000000e+01<" in said, "a client that had shut down used to report no CPU time at all"
    assert b"<fraction_done>1.0" in said and b"<fpops_cumulative>1.0" in said


@pytest.mark.parametrize(("cpu_time", "told"), [("host", ("1.25", "1.1")), ("guest", ("2.0", "1.9"))])
def test_the_client_is_told_the_cpu_time_that_the_job_file_names(
    tmp_path: Path, cpu_time: str, told: tuple[str, str]
) -> None:
    """Both figures of a message are of one kind: a client takes any change of the second for a checkpoint."""
    progress = Progress(
        cpu_seconds=12.5, guest_cpu_seconds=20.0, checkpoint_cpu_seconds=11.0, checkpoint_guest_cpu_seconds=19.0
    )
    said = told_at_the_next_start(tmp_path, Home("finished", progress, cpu_time))[1].decode()
    assert f"<current_cpu_time>{told[0]}" in said and f"<checkpoint_cpu_time>{told[1]}" in said


@pytest.mark.parametrize(("whose", "spent"), [("host", Spent(host_s=9.0)), ("guest", Spent(guest_s=9.0))])
def test_what_the_client_was_told_before_is_the_least_of_its_kind(whose: str, spent: Spent) -> None:
    assert _spent(InitData(wu_cpu_time=9.0), whose) == spent


def test_without_a_client_the_next_start_just_finishes(tmp_path: Path) -> None:
    assert asyncio.run(_tell_the_rest(Slot(tmp_path), None, None, HOME)) == DONE


def test_trickles_about_the_work_done(tmp_path: Path) -> None:
    from bridge.client.link import ClientLink

    trickles = Trickles(tmp_path)
    file = tmp_path / "job.xml"
    job = Job(file, (MachineTask(file, "vm", Path("image"), "worker"),))

    async def go() -> None:
        link = ClientLink(AppIpc(memoryview(bytearray(SIZE))), InitData(), alive=lambda pid: True)
        told = _ClientSide(link, InitData(), job, trickles, Options(trickle_s=60.0))
        silent = _ClientSide(link, InitData(), job, trickles, Options())
        for seconds in (0.0, 59.0):
            told.progress(Progress(cpu_seconds=seconds, run_seconds=seconds))
            silent.progress(Progress(cpu_seconds=10 * seconds, run_seconds=10 * seconds))
        assert trickles.settled
        told.progress(Progress(cpu_seconds=60.0, run_seconds=60.5))

    asyncio.run(go())
    assert trickles.left == 2
