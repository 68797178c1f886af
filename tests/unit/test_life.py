"""The life of a task with a scripted guest: the real loop, watch and share, no machine."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from bridge.errors import HostError, OverBound
from bridge.guest import watch
from bridge.hypervisors import Condition, MachineState
from bridge.job import MachineTask
from bridge.life import holding, loop
from bridge.life.accounting import Progress
from bridge.life.decide import End, Outcome
from bridge.life.forwarding import Nobody, Project
from bridge.life.loop import Limited, TaskLife
from bridge.life.patience import Limits
from bridge.life.tables import State
from protocol.messages import Finished
from protocol.session import Garbled

from ..fakes import FakeMachine, FakeNetworkedMachine, Recorder, Script, spec
from ..patience import AT_MOST_S

RUNNING = "protocol 1\nstate running\nheartbeat 1\n"


@dataclass
class Lived:
    """What is left of a life."""

    outcome: Outcome
    machine: FakeMachine
    audience: Recorder
    life: TaskLife


def live(
    directory: Path,
    *script: tuple[float, Script],
    outputs: Iterable[str] = (),
    audience: Recorder | None = None,
    stage: Callable[[int, Mapping[str, Path]], None] = lambda seq, saved: None,
    limited: Limited | None = None,
    prepare: Callable[[FakeMachine, TaskLife], None] = lambda machine, life: None,
    home: Callable[[Finished], None] = lambda finished: None,
    project: Project | None = None,
    kind: type[FakeMachine] = FakeMachine,
) -> Lived:
    """Live one life with a guest that follows `script`."""

    async def go() -> Lived:
        machine_spec = spec(directory)
        machine = kind(machine_spec, script)
        heard_by = audience or Recorder()
        job = MachineTask(directory / "job.xml", "vm", Path("image"), "worker", outputs=tuple(outputs))
        life = TaskLife(
            job,
            machine_spec.share,
            machine_spec.directory,
            machine,
            stage,
            heard_by,
            limited or Limited(),
            home,
            project=project,
        )
        prepare(machine, life)
        outcome = await asyncio.wait_for(life.run(), AT_MOST_S)
        return Lived(outcome, machine, heard_by, life)

    return asyncio.run(go())


def say(name: str, content: str) -> Script:
    """Write a file as a guest does, by rename."""
    return lambda machine: machine.say(name, content)


def echo(name: str, content: str) -> Script:
    """Write a file as a person does, in place."""

    def act(machine: FakeMachine) -> None:
        (machine.guest / name).write_text(content)

    return act


@pytest.mark.behaviour("B8", "B11")
def test_a_job_from_beginning_to_end(tmp_path: Path) -> None:
    lived = live(
        tmp_path,
        (0.00, say("status", "protocol 1\nstate booting\nheartbeat 0\n")),
        (0.02, say("status", RUNNING)),
        (0.04, say("fraction_done", "0.5\n")),
        (0.06, say("creditreport", "fpops 1e9\nintops 2e6\ncpu_seconds 3\n")),
        (0.08, say("checkpoint", "count 2\n")),
        (0.10, lambda machine: machine.result("energy.txt", "-4.25\n")),
        (0.12, say("finished", "code 0\nmessage done\n")),
        outputs=["energy.txt"],
    )
    assert lived.outcome.end is End.SUCCESS and lived.outcome.message == "done"
    assert lived.audience.states == [
        State.STAGING, State.BOOTING, State.RUNNING, State.COLLECTING, State.REMOVING, State.ENDED,
    ]  # fmt: skip
    last = lived.life.progress
    assert (last.fraction_done, last.fpops, last.intops, last.guest_cpu_seconds, last.checkpoints) == (
        0.5,
        1e9,
        2e6,
        3,
        2,
    )
    assert (tmp_path / "energy.txt").read_text() == "-4.25\n"
    assert lived.life.results == [tmp_path / "energy.txt"]
    assert lived.machine.calls[-1] == "remove"


@pytest.mark.behaviour("B15")
def test_trickles_and_an_early_upload(tmp_path: Path) -> None:
    def upload(machine: FakeMachine) -> None:
        machine.result("early.txt", "early\n")
        machine.say("upload.1", "name early.txt\n")

    def change_and_finish(machine: FakeMachine) -> None:
        machine.result("early.txt", "changed too late\n")
        machine.result("late.txt", "late\n")
        machine.say("trickle_up.2", "variety v\ntext at the end\n")
        machine.say("finished", "code 0\n")

    def when_uploaded(machine: FakeMachine) -> None:
        if (tmp_path / "shared/host/uploaded.1").exists():
            change_and_finish(machine)
        else:
            asyncio.get_running_loop().call_later(0.05, when_uploaded, machine)

    told: list[str] = []
    lived = live(
        tmp_path,
        (0.0, say("status", RUNNING)),
        (0.0, say("trickle_up.1", "variety v\ntext at once\n")),
        (0.0, upload),
        (0.1, when_uploaded),
        outputs=["late.txt", "early.txt"],
        project=Nobody(told.append),
    )
    assert lived.outcome.end is End.SUCCESS
    assert told == [
        "trickle 1 to the project, v: at once",
        "upload 1: early.txt",
        "trickle 2 to the project, v: at the end",
    ]
    assert lived.life.results == [tmp_path / "early.txt", tmp_path / "late.txt"]
    assert (tmp_path / "early.txt").read_text() == "early\n", "what a client may be uploading does not change"
    assert lived.life.progress.run_seconds > 0


def test_a_tester_needs_two_files_only(tmp_path: Path) -> None:
    lived = live(
        tmp_path,
        (0.0, echo("fraction_done", "0.5\n")),
        (0.1, echo("finished", "code 0\n")),
    )
    assert lived.outcome.end is End.SUCCESS
    assert [figures.fraction_done for figures in lived.audience.figures] == [0.5]


def test_a_value_without_its_newline_counts_after_the_grace_time(tmp_path: Path) -> None:
    lived = live(tmp_path, (0.0, echo("finished", "code 0")))
    assert lived.outcome.end is End.SUCCESS


def test_what_is_there_when_the_watch_begins_is_heard(tmp_path: Path) -> None:
    lived = live(tmp_path, prepare=lambda machine, life: machine.say("finished", "code 0\n"))
    assert lived.outcome.end is End.SUCCESS


def test_a_program_that_fails_is_told_with_its_code_and_its_last_words(tmp_path: Path) -> None:
    lived = live(
        tmp_path,
        (0.0, say("stderr", "reading input\nSegmentation fault\n")),
        (0.0, say("finished", "code 139\nmessage killed by signal 11 (SIGSEGV)\n")),
        outputs=["energy.txt"],
    )
    assert lived.outcome.end is End.PROGRAM_FAILED
    assert lived.outcome.message == "the program ended with code 139: killed by signal 11 (SIGSEGV)"
    assert lived.outcome.details == "reading input\nSegmentation fault"


def test_a_missing_output_is_named_and_the_others_are_brought(tmp_path: Path) -> None:
    lived = live(
        tmp_path,
        (0.0, lambda machine: machine.result("b", "here")),
        (0.02, say("finished", "code 0\n")),
        outputs=["a", "b"],
    )
    assert lived.outcome.end is End.BRIDGE_FAILED
    assert lived.outcome.message == "the output a is missing: the program did not write it"
    assert (tmp_path / "b").read_text() == "here"


def test_a_planted_output_is_not_followed(tmp_path: Path) -> None:
    def plant(machine: FakeMachine) -> None:
        machine.out.mkdir()
        (machine.out / "a").symlink_to("/etc/passwd")
        machine.say("finished", "code 0\n")

    lived = live(tmp_path, (0.0, plant), outputs=["a"])
    assert "the output a cannot be taken: it is no regular file" in lived.outcome.message
    assert not (tmp_path / "a").exists()


def test_an_output_larger_than_the_disk_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    def plant(machine: FakeMachine) -> None:
        machine.out.mkdir()
        with (machine.out / "a").open("wb") as file:
            file.truncate(1 << 42)
        machine.say("finished", "code 0\n")

    lived = live(tmp_path, (0.0, plant), outputs=["a"])
    assert "the output a has 4,398,046,511,104 bytes, but only" in lived.outcome.message
    assert not (tmp_path / "a").exists()


def test_a_guest_that_cannot_run_the_task(tmp_path: Path) -> None:
    lived = live(tmp_path, (0.0, say("status", "protocol 1\nstate error\nheartbeat 1\nmessage share full\n")))
    assert lived.outcome.end is End.GUEST_FAILED
    assert lived.outcome.message == "the guest cannot run the task: share full"


def test_a_machine_that_ends_too_early_is_told_with_its_console(tmp_path: Path) -> None:
    def die(machine: FakeMachine) -> None:
        machine.console = "Kernel panic - not syncing"
        machine.die("the machine switched itself off")

    lived = live(tmp_path, (0.05, die))
    assert lived.outcome.end is End.MACHINE_FAILED
    assert "ended before the program had finished: the machine switched itself off" in lived.outcome.message
    assert lived.outcome.details == "Kernel panic - not syncing"


def test_the_last_words_of_a_machine_that_switched_itself_off_count(tmp_path: Path) -> None:
    def finish_and_die(machine: FakeMachine) -> None:
        machine.say("finished", "code 0\n")
        machine.die("off")

    assert live(tmp_path, (0.0, finish_and_die)).outcome.end is End.SUCCESS


def test_a_guest_that_never_comes_up_is_given_up(tmp_path: Path) -> None:
    limited = Limited(boot=Limits(cpu_s=10, clock_s=0.5))
    lived = live(tmp_path, limited=limited, prepare=lambda machine, life: setattr(machine, "console", "booting..."))
    assert lived.outcome.end is End.MACHINE_FAILED
    said = re.match(r"the guest never came up: silent for (\d+) seconds", lived.outcome.message)
    assert said and int(said[1]) >= 1, lived.outcome.message
    assert lived.outcome.details == "booting..."


@pytest.mark.behaviour("B12")
def test_a_guest_that_falls_silent_is_given_up_by_its_cpu_time(tmp_path: Path) -> None:
    def burn(machine: FakeMachine) -> None:
        machine.cpu_seconds = 400

    lived = live(tmp_path, (0.0, say("status", RUNNING)), (0.2, burn))
    assert lived.outcome.message == "the guest is lost: silent for 400 seconds of its machine's CPU time"


def test_a_program_that_hangs_is_given_up_though_its_agent_lives(tmp_path: Path) -> None:
    def beat(machine: FakeMachine) -> None:
        if machine.examine().state is MachineState.RUNNING:
            machine.say("status", RUNNING.replace("heartbeat 1", f"heartbeat {time.monotonic_ns()}"))
        asyncio.get_running_loop().call_later(0.2, beat, machine)

    lived = live(tmp_path, (0.0, beat), (0.1, say("creditreport", "cpu_seconds 2\n")), limited=Limited(hung_s=0.5))
    assert lived.outcome.end is End.MACHINE_FAILED
    assert re.fullmatch(
        r"the program hangs: it has reported nothing for \d+ seconds and used no processor", lived.outcome.message
    )


@pytest.mark.behaviour("B12")
def test_a_moving_heartbeat_keeps_a_guest_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all it uses twice the CPU time for which a guest may be silent."""
    monkeypatch.setattr(loop, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(watch, "REREAD_EVERY_S", 0.1)

    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        examine = machine.examine

        def looked_at() -> Condition:
            machine.cpu_seconds += 100
            number = round(machine.cpu_seconds) // 100
            machine.say("status", f"protocol 1\nstate running\nheartbeat {number}\n")
            if number == 6:
                machine.say("finished", "code 0\n")
            return examine()

        monkeypatch.setattr(machine, "examine", looked_at)

    lived = live(tmp_path, (0.0, say("status", RUNNING)), prepare=prepare)
    assert lived.outcome.end is End.SUCCESS and lived.life.progress.cpu_seconds >= 600


def test_an_interrupt_removes_the_machine(tmp_path: Path) -> None:
    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        asyncio.get_running_loop().call_later(0.1, life.quit)

    lived = live(tmp_path, (0.0, say("status", RUNNING)), prepare=prepare)
    assert lived.outcome.end is End.INTERRUPTED and lived.machine.calls[-1] == "remove"


def test_an_interrupt_before_anything_began(tmp_path: Path) -> None:
    lived = live(tmp_path, prepare=lambda machine, life: life.quit())
    assert lived.outcome.end is End.INTERRUPTED and "start" not in lived.machine.calls


def test_a_machine_that_cannot_start(tmp_path: Path) -> None:
    lived = live(tmp_path, prepare=lambda machine, life: setattr(machine, "fail_at", "start"))
    assert lived.outcome.end is End.BRIDGE_FAILED and lived.outcome.message == "start failed on purpose"
    assert lived.machine.calls[-1] == "remove"


def test_staging_that_fails_starts_no_machine(tmp_path: Path) -> None:
    def stage(seq: int, saved: Mapping[str, Path]) -> None:
        raise HostError("cannot stage worker: No space left on device")

    lived = live(tmp_path, stage=stage)
    assert lived.outcome.message == "cannot stage worker: No space left on device"
    assert "start" not in lived.machine.calls


def test_an_unexpected_error_still_removes_the_machine(tmp_path: Path) -> None:
    machines: list[FakeMachine] = []

    def stage(seq: int, saved: Mapping[str, Path]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        live(tmp_path, stage=stage, prepare=lambda machine, life: machines.append(machine))
    assert machines[0].calls[-1] == "remove"


def test_a_hostile_guest_cannot_flood_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "COMPLAINTS", 5)

    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        """Each lie comes when the one before has been heard."""
        hear = life._hear
        lies = itertools.count(1)

        def heard(news: watch.News) -> None:
            hear(news)
            if isinstance(news, Garbled) and (number := next(lies)) < 20:
                machine.say("fraction_done", f"lie {number}\n")
            else:
                machine.say("finished", "code 0\n")

        monkeypatch.setattr(life, "_hear", heard)

    lived = live(tmp_path, (0.0, say("fraction_done", "lie 0\n")), prepare=prepare)
    assert lived.outcome.end is End.SUCCESS
    told = [record for record in caplog.records if "fraction_done is not taken" in record.getMessage()]
    assert len(told) == 5 and "no more of this is told" in told[-1].getMessage()


def test_finished_and_error_at_one_look_is_no_success(tmp_path: Path) -> None:
    def both(machine: FakeMachine, life: TaskLife) -> None:
        machine.say("status", "protocol 1\nstate error\nheartbeat 1\nmessage no\n")
        machine.say("finished", "code 0\n")

    lived = live(tmp_path, prepare=both, outputs=["a"])
    assert lived.outcome.end is End.GUEST_FAILED, "it used to be a success without a result"


def test_an_interrupt_when_the_results_are_home_is_a_success(tmp_path: Path) -> None:
    class Late(Recorder):
        def state(self, state: State) -> None:
            super().state(state)
            if state is State.REMOVING:
                self.life.quit()

        life: TaskLife

    late = Late()

    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        late.life = life
        machine.result("a", "result")

    lived = live(tmp_path, (0.0, say("finished", "code 0\n")), outputs=["a"], prepare=prepare, audience=late)
    assert lived.outcome.end is End.SUCCESS and (tmp_path / "a").read_text() == "result"


def test_an_audience_that_fails_does_not_end_the_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Recorder):
        def state(self, state: State) -> None:
            raise BrokenPipeError("the reader has gone")

        def progress(self, progress: Progress) -> None:
            raise OSError(28, "No space left on device")

    def finish_and_die(machine: FakeMachine) -> None:
        machine.say("fraction_done", "0.5\n")
        machine.result("a", "result")
        machine.say("finished", "code 0\n")
        machine.die("off")

    lived = live(tmp_path, (0.05, finish_and_die), outputs=["a"], audience=Gone())
    assert lived.outcome.end is End.SUCCESS and (tmp_path / "a").read_text() == "result"
    assert caplog.text.count("nobody can be told how the job goes") == 1


def test_the_machine_is_stopped_before_its_results_are_taken(tmp_path: Path) -> None:
    lived = live(tmp_path, (0.0, lambda machine: machine.result("a", "x")), (0.02, say("finished", "code 0\n")),
                 outputs=["a"])  # fmt: skip
    assert lived.machine.calls == ["start", "stop", "remove", "remove"]


def test_an_output_with_the_longest_name_there_is(tmp_path: Path) -> None:
    name = "n" * 255
    lived = live(tmp_path, (0.0, lambda machine: machine.result(name, "x")), (0.02, say("finished", "code 0\n")),
                 outputs=[name])  # fmt: skip
    assert lived.outcome.end is End.SUCCESS, "its temporary name used to be too long"
    assert (tmp_path / name).read_text() == "x"


def test_trouble_with_one_output_does_not_keep_the_others_back(tmp_path: Path) -> None:
    def results(machine: FakeMachine) -> None:
        for name in ("a", "b"):
            machine.result(name, name)

    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        (tmp_path / "a").mkdir()

    lived = live(tmp_path, (0.0, results), (0.02, say("finished", "code 0\n")), outputs=["a", "b"], prepare=prepare)
    assert lived.outcome.end is End.BRIDGE_FAILED and "cannot bring the output a" in lived.outcome.message
    assert (tmp_path / "b").read_text() == "b"


def test_an_unexpected_error_of_the_system_is_told_and_the_machine_removed(tmp_path: Path) -> None:
    def stage(seq: int, saved: Mapping[str, Path]) -> None:
        raise OSError(24, "Too many open files")

    lived = live(tmp_path, stage=stage)
    assert lived.outcome.end is End.BRIDGE_FAILED
    assert lived.outcome.message == "cannot stage: [Errno 24] Too many open files"


def obey(order: Callable[[], None], machine: FakeMachine) -> None:
    """Something that happens when the machine is there, which may be late."""
    order()


def test_a_machine_is_paused_and_resumed_as_often_as_the_client_likes(tmp_path: Path) -> None:
    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        orders = (life.hold, life.hold, life.release, life.release, life.hold, life.release)
        for number, order in enumerate(orders, 1):
            machine.follow((0.1 * number, partial(obey, order)))

    lived = live(tmp_path, (0.0, say("status", RUNNING)), (0.8, say("finished", "code 0\n")), prepare=prepare)
    assert lived.outcome.end is End.SUCCESS
    assert lived.machine.calls == ["start", "pause", "resume", "pause", "resume", "stop", "remove", "remove"]


def test_a_machine_that_must_not_run_is_paused_as_soon_as_it_is_there(tmp_path: Path) -> None:
    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        life.hold()

    lived = live(tmp_path, (0.1, say("finished", "code 0\n")), prepare=prepare)
    assert lived.machine.calls[:2] == ["start", "pause"]


def test_a_held_machine_is_interrupted_like_any_other(tmp_path: Path) -> None:
    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        life.hold()
        asyncio.get_running_loop().call_later(0.1, life.quit)

    lived = live(tmp_path, prepare=prepare)
    assert lived.outcome.end is End.INTERRUPTED and lived.machine.calls[-1] == "remove"


def test_no_guest_is_missed_while_its_machine_stands_still(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(holding, "TOLD_AFTER_S", AT_MOST_S)

    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        life.hold()
        machine.follow((2.5, partial(obey, life.release)))

    lived = live(
        tmp_path,
        (2.6, say("finished", "code 0\n")),
        prepare=prepare,
        limited=Limited(boot=Limits(cpu_s=10, clock_s=1.5)),
    )
    assert lived.outcome.end is End.SUCCESS
    assert "paused" not in caplog.text, "a pause so short is not worth a line"


def test_a_long_pause_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(holding, "TOLD_AFTER_S", 0.5)

    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        life.hold()
        machine.follow((2.5, partial(obey, life.release)))

    live(tmp_path, (2.7, say("finished", "code 0\n")), prepare=prepare)
    assert caplog.text.count("the machine is paused: suspended by the client") == 1
    assert caplog.text.count("the machine runs again after") == 1


def test_a_machine_that_cannot_be_paused_is_removed(tmp_path: Path) -> None:
    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        machine.fail_at = "pause"
        asyncio.get_running_loop().call_later(0.1, life.hold)

    lived = live(tmp_path, (0.0, say("status", RUNNING)), prepare=prepare)
    assert lived.outcome.end is End.BRIDGE_FAILED and lived.outcome.message == "pause failed on purpose"
    assert lived.machine.calls[-1] == "remove"


def test_the_network_is_cut_before_the_machine_starts_and_given_back_while_it_runs(tmp_path: Path) -> None:
    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        life.connect(False)
        machine.follow((0.0, lambda machine: life.connect(True)), (0.1, say("finished", "code 0\n")))

    lived = live(tmp_path, prepare=prepare, kind=FakeNetworkedMachine)
    assert lived.outcome.end is End.SUCCESS
    assert lived.machine.calls[:3] == ["disconnect", "start", "connect"]


def test_a_network_that_cannot_be_cut_is_trouble(tmp_path: Path) -> None:
    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        machine.fail_at = "disconnect"
        life.connect(False)

    lived = live(tmp_path, prepare=prepare, kind=FakeNetworkedMachine)
    assert lived.outcome.end is End.BRIDGE_FAILED and lived.outcome.message == "disconnect failed on purpose"


def test_a_job_that_others_let_fail_fails_while_its_machine_works(tmp_path: Path) -> None:
    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        life.fail(OverBound("too early"))
        machine.follow((0.0, say("status", RUNNING)), (0.1, lambda machine: life.fail(OverBound("too much"))))

    lived = live(tmp_path, prepare=prepare)
    assert lived.outcome.end is End.BRIDGE_FAILED and lived.outcome.message == "too much"
    assert lived.machine.calls[-1] == "remove" and not lived.life.kept


def test_a_job_that_has_its_results_does_not_fail_any_more(tmp_path: Path) -> None:
    lives: list[TaskLife] = []
    lived = live(
        tmp_path,
        (0.0, say("finished", "code 0\n")),
        prepare=lambda machine, life: lives.append(life),
        home=lambda finished: lives[0].fail(OverBound("too much")),
    )
    assert lived.outcome.end is End.SUCCESS


def test_a_hypervisor_without_networks_is_not_asked(tmp_path: Path) -> None:
    lived = live(tmp_path, (0.0, say("finished", "code 0\n")), prepare=lambda machine, life: life.connect(False))
    assert lived.outcome.end is End.SUCCESS


def test_that_the_results_are_home_is_told_before_the_machine_goes(tmp_path: Path) -> None:
    seen: list[str] = []
    machines: list[FakeMachine] = []

    def home(finished: Finished) -> None:
        seen.extend([finished.message or "", (tmp_path / "a").read_text(), *machines[0].calls])

    live(
        tmp_path,
        (0.0, lambda machine: machine.result("a", "result")),
        (0.1, say("finished", "code 0\nmessage done\n")),
        outputs=["a"],
        prepare=lambda machine, life: machines.append(machine),
        home=home,
    )
    assert seen == ["done", "result", "start", "stop"]


@pytest.mark.parametrize("ending", ["code 3\n", "code 0\n"])
def test_a_failure_is_never_told_as_home(tmp_path: Path, ending: str) -> None:
    seen: list[Finished] = []
    lived = live(tmp_path, (0.0, say("finished", ending)), outputs=["missing"], home=seen.append)
    assert lived.outcome.end is not End.SUCCESS and seen == []


def test_a_record_that_cannot_be_written_is_trouble_of_the_host(tmp_path: Path) -> None:
    def home(finished: Finished) -> None:
        raise HostError("cannot record that the results are home: No space left on device")

    lived = live(tmp_path, (0.0, say("finished", "code 0\n")), home=home)
    assert lived.outcome.end is End.BRIDGE_FAILED and isinstance(lived.outcome.error, HostError)
