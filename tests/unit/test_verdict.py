"""What the command line may say, and how a job ended in the client's terms."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import (
    BridgeError,
    CommandFailed,
    GuestError,
    HostError,
    ImageError,
    JobFileError,
    NotInstalled,
    NotPermitted,
    OverBound,
)
from bridge.failures import FAILURES, MOST_FAILURES, count_failure, forget_failures
from bridge.life.decide import End, Outcome
from bridge.options import OptionError, Options, parse_options
from bridge.verdict import (
    EXIT_ABORTED_BY_CLIENT,
    EXIT_CHILD_FAILED,
    EXIT_INIT_FAILURE,
    SOON_S,
    WHEN_MENDED_S,
    Finish,
    Leave,
    TemporaryExit,
    Verdict,
    verdict_of,
    verdict_on,
)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", Options()),
        ("--version", Options(version=True)),
        ("-v", Options(version=True)),
        ("--nthreads 4", Options(cpus=4)),
        ("--nthreads 1.500000", Options(cpus=2)),
        ("--memory_size_mb 1024 --use_tstp", Options(memory_mb=1024, use_tstp=True)),
        ("--device 1", Options(device=1)),
        ("--hypervisor local", Options(hypervisor="local")),
        ("--trickle 3600", Options(trickle_s=3600.0)),
        ("--trickle 0.5", Options(trickle_s=10.0)),
        ("--trickle 0", Options()),
        ("--nthreads 2 --passthrough_child --nthreads 3 -x", Options(cpus=2, arguments=("--nthreads", "3", "-x"))),
    ],
)
def test_the_options_of_the_old_programs(words: str, options: Options) -> None:
    assert parse_options(words.split()) == options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--colour blue",
            "the option '--colour' is not known. Known are: --device, --hypervisor, --memory_size_mb, ",
        ),
        ("job.xml", "the option 'job.xml' is not known"),
        ("--nthreads", "the option --nthreads needs a value"),
        ("--nthreads many", "the option --nthreads takes a number from 1 to 256, not 'many'"),
        ("--nthreads nan", "takes a number"),
        ("--nthreads 0", "takes a number"),
        ("--nthreads 1e9", "takes a number"),
        ("--memory_size_mb 12", "the option --memory_size_mb takes a number from 64 to 1,048,576, not '12'"),
        ("--device -1", "the option --device takes a number from 0 to 1,023, not '-1'"),
        ("--trickle often", "the option --trickle takes a number from 0 to 1,000,000,000, not 'often'"),
        ("--trickle -1", "takes a number"),
        ("--nthreads=4", "the option '--nthreads=4' is not known"),
    ],
)
def test_a_wrong_option_is_named(words: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_options(words.split())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome(End.SUCCESS, "done"), Finish(0, "done")),
        (Outcome(End.INTERRUPTED, "no"), Leave(0)),
        (Outcome(End.ABORTED, "no"), Leave(EXIT_ABORTED_BY_CLIENT)),
        (Outcome(End.PROGRAM_FAILED, "no", code=3), Finish(3, "no")),
        (Outcome(End.PROGRAM_FAILED, "no", code=139), Finish(139, "no")),
        (Outcome(End.PROGRAM_FAILED, "no", code=256), Finish(EXIT_CHILD_FAILED, "no")),
        (Outcome(End.PROGRAM_FAILED, "no", code=-1), Finish(EXIT_CHILD_FAILED, "no")),
        (Outcome(End.GUEST_FAILED, "no"), Finish(EXIT_CHILD_FAILED, "no")),
        (Outcome(End.SUCCESS, "look at it", notice=True), Finish(0, "look at it", notice=True)),
        (Outcome(End.POSTPONED, "later", delay_s=60), TemporaryExit(60, "later")),
        (Outcome(End.POSTPONED, "pay", delay_s=60, notice=True), TemporaryExit(60, "pay", notice=True)),
        (Outcome(End.MACHINE_FAILED, "gone"), TemporaryExit(SOON_S, "gone")),
        (
            Outcome(End.BRIDGE_FAILED, "full", error=HostError("disk full")),
            TemporaryExit(SOON_S, "disk full"),
        ),
    ],
)
def test_how_a_job_ended(outcome: Outcome, verdict: Verdict) -> None:
    assert verdict_of(outcome) == verdict


def test_a_job_whose_machine_always_fails_ends_one_day() -> None:
    """The client used to start it again until its own limit of a hundred."""
    outcome = Outcome(End.MACHINE_FAILED, "the guest is lost")
    assert isinstance(verdict_of(outcome, MOST_FAILURES - 1), TemporaryExit)
    message = f"the guest is lost; so did {MOST_FAILURES - 1} machines before at this point"
    assert verdict_of(outcome, MOST_FAILURES) == Finish(EXIT_CHILD_FAILED, message)


def test_failures_are_counted_until_the_job_has_come_further(tmp_path: Path) -> None:
    assert [count_failure(tmp_path, cpu) for cpu in (0.0, 0.0, 7.5, 7.5, 3.0, 7.5, 7.6)] == [1, 2, 1, 2, 3, 4, 1]
    forget_failures(tmp_path)
    forget_failures(tmp_path)
    assert count_failure(tmp_path, 0.0) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"count": 1e999}', b"\xff", b"null"])
def test_a_record_of_failures_that_makes_no_sense_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FAILURES).write_bytes(content)
    assert count_failure(tmp_path, 0.0) == 1


def test_failures_that_cannot_be_noted_end_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / f".{FAILURES}.tmp").mkdir()
    assert count_failure(tmp_path, 0.0) == 1 and "cannot be noted" in caplog.text


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (JobFileError(Path("job.xml"), 3, "task", "no"), Finish(EXIT_INIT_FAILURE, "job.xml, line 3: <task>: no")),
        (ImageError("no"), Finish(EXIT_INIT_FAILURE, "no")),
        (OptionError("no"), Finish(EXIT_INIT_FAILURE, "no")),
        (OverBound("too much"), Finish(196, "too much")),
        (GuestError("output missing"), Finish(EXIT_CHILD_FAILED, "output missing")),
        (NotInstalled("no QEMU"), TemporaryExit(WHEN_MENDED_S, "no QEMU", notice=True)),
        (NotPermitted("no"), TemporaryExit(WHEN_MENDED_S, "no", notice=True)),
        (CommandFailed("no"), TemporaryExit(SOON_S, "no")),
        (HostError("no"), TemporaryExit(SOON_S, "no")),
    ],
)
def test_whose_move_it_is(error: BridgeError, verdict: Verdict) -> None:
    assert verdict_on(error) == verdict


def test_a_code_that_would_be_cut_to_success_is_not() -> None:
    for code in (-256, -1, 0, 256, 512, 65536):
        verdict = verdict_of(Outcome(End.PROGRAM_FAILED, "no", code=code))
        assert isinstance(verdict, Finish) and verdict.code & 0xFF
