"""What the guest's files mean over time."""

from __future__ import annotations

import pytest

from protocol.errors import RemoteProtocolError
from protocol.messages import CreditReport, Finished, FractionDone, GuestState, Status
from protocol.session import GRACE_S, Garbled, Said, Session


def test_a_complete_file_is_taken_at_once_and_only_once() -> None:
    session = Session()
    assert session.observe("fraction_done", b"0.5\n", 0) == Said("fraction_done", FractionDone(0.5))
    assert session.observe("fraction_done", b"0.5\n", 1) is None
    assert session.observe("fraction_done", b"0.6\n", 2) == Said("fraction_done", FractionDone(0.6))


def test_the_same_value_written_again_differently_is_said_again() -> None:
    session = Session()
    session.observe("fraction_done", b"0.5\n", 0)
    assert session.observe("fraction_done", b"0.50\n", 1) == Said("fraction_done", FractionDone(0.5))


@pytest.mark.behaviour("B3", "B9")
def test_an_unfinished_file_is_taken_when_it_has_not_changed_for_the_grace_time() -> None:
    session = Session()
    assert session.observe("fraction_done", b"0.1", 10.0) is None
    assert session.observe("fraction_done", b"0.15", 10.9) is None, "it was still growing: 0.1 was never the value"
    assert session.observe("fraction_done", b"0.15", 10.9 + GRACE_S - 0.01) is None
    assert session.observe("fraction_done", b"0.15", 10.9 + GRACE_S) == Said("fraction_done", FractionDone(0.15))
    assert session.observe("fraction_done", b"0.15", 20.0) is None


@pytest.mark.behaviour("B3")
def test_an_unfinished_key_file_too() -> None:
    session = Session()
    session.observe("finished", b"code 0", 0)
    assert session.observe("finished", b"code 0", 5) == Said("finished", Finished(0))


def test_an_empty_file_is_complained_about_after_the_grace_time_only() -> None:
    session = Session()
    assert session.observe("finished", b"", 0) is None
    garbled = session.observe("finished", b"", 5)
    assert isinstance(garbled, Garbled) and garbled.error.rule == "R9"


@pytest.mark.behaviour("B5")
def test_a_broken_file_is_reported_once_and_the_next_good_one_counts() -> None:
    session = Session()
    session.observe("fraction_done", b"0.5\n", 0)
    garbled = session.observe("fraction_done", b"nan\n", 1)
    assert isinstance(garbled, Garbled)
    assert garbled.kind == "fraction_done" and garbled.error.rule == "R15" and "'nan'" in str(garbled.error)
    assert session.observe("fraction_done", b"nan\n", 2) is None
    assert session.observe("fraction_done", b"0.7\n", 3) == Said("fraction_done", FractionDone(0.7))
    assert isinstance(session.observe("fraction_done", b"nan\n", 4), Garbled), (
        "a complaint counts anew after a good value"
    )


def test_what_cannot_be_opened_is_reported_once() -> None:
    session = Session()
    error = RemoteProtocolError("B7", "it is no regular file")
    assert session.refuse("status", error) == Garbled("status", error)
    assert session.refuse("status", error) is None


def test_a_file_that_goes_and_comes_back_is_said_again() -> None:
    session = Session()
    session.observe("creditreport", b"fpops 1\n", 0)
    assert session.observe("creditreport", None, 1) is None
    assert session.observe("creditreport", b"fpops 1\n", 2) == Said("creditreport", CreditReport(fpops=1.0))


def test_files_do_not_disturb_each_other() -> None:
    session = Session()
    session.observe("status", b"garbage\n", 0)
    session.observe("fraction_done", b"0.1", 0)
    status = session.observe("status", b"protocol 1\nstate ready\nheartbeat 0\n", 0.5)
    assert status == Said("status", Status(GuestState.READY, 0))
    assert session.observe("fraction_done", b"0.1", GRACE_S) == Said("fraction_done", FractionDone(0.1))


def test_what_was_unfinished_before_it_could_not_be_read_is_judged_when_it_is_back() -> None:
    session = Session()
    session.observe("finished", b"code 0", 0)
    session.refuse("finished", RemoteProtocolError("B7", "it is no regular file"))
    assert session.observe("finished", b"code 0", 1) is None
    assert session.observe("finished", b"code 0", 1 + GRACE_S) == Said("finished", Finished(0))
