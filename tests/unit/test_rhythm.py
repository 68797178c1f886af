"""When the client will look next: learned from what becomes of our messages, on a clock of our own."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from bridge.client.rhythm import BEFORE_S, PERIOD_S, Rhythm

LOOK_EVERY_S = 0.1


@dataclass
class Channel:
    """A channel on a simulated clock: we look ten times a second and always have something new to say."""

    rhythm: Rhythm = field(default_factory=Rhythm)
    written: float | None = None
    ages: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    def read(self, now: float) -> None:
        """The client takes the message, if there is one."""
        if self.written is not None:
            self.ages.append(now - self.written)
            self.written = None

    def offer(self, now: float) -> None:
        """We look, and write what is newest if the moment is right."""
        full = self.written is not None
        self.rhythm.look(now, full=full)
        if not full:
            self.delays.append(self.rhythm.write_at(now) - now)
            if self.delays[-1] <= 0:
                self.rhythm.wrote(now)
                self.written = now


def run(reads: list[float], until: float, *, phase: float = 0.0) -> Channel:
    """Let a client read at these moments, while we look every 0.1 s and when a value is due."""
    channel = Channel()
    now, look = phase, phase
    events = sorted(reads)
    while now < until:
        due = channel.rhythm.write_at(look) if channel.written is None else look + LOOK_EVERY_S
        now = min(look + LOOK_EVERY_S, max(due, now + 1e-6))
        while events and events[0] <= now:
            channel.read(events.pop(0))
        channel.offer(now)
        if now >= look + LOOK_EVERY_S - 1e-9:
            look = now
    return channel


@pytest.mark.parametrize("seed", range(20))
def test_a_client_that_looks_once_a_second_finds_a_fresh_value(seed: int) -> None:
    chance = random.Random(seed)
    start = chance.random()
    reads = [start + n * chance.uniform(1.0004, 1.0008) + chance.uniform(0, 0.01) for n in range(60)]
    channel = run(reads, 60, phase=chance.random())
    settled = channel.ages[4:]
    assert len(settled) > 50, "something is there at nearly every look"
    assert max(settled) <= 0.2, "and it is not old"


def test_a_reader_that_takes_everything_at_once_is_written_to_at_once() -> None:
    rhythm = Rhythm()
    for n in range(100):
        now = n * PERIOD_S  # even if our values come like a rhythm themselves
        assert rhythm.write_at(now) == now
        rhythm.wrote(now)
        rhythm.look(now + 0.05, full=False)


def test_nothing_is_held_back_before_a_rhythm_is_known() -> None:
    rhythm = Rhythm()
    rhythm.wrote(0.0)
    rhythm.look(0.1, full=True)
    rhythm.look(0.2, full=False)
    assert rhythm.write_at(0.3) == 0.3, "one look of the client is no rhythm"


def test_a_client_that_was_busy_is_learned_anew() -> None:
    reads = [n + 0.5 for n in range(10)] + [12.9 + n for n in range(20)]
    channel = run(reads, 32)
    assert max(channel.ages[-15:]) <= 0.2
    assert len(channel.ages) >= 27, "and every message is taken in the end"


def test_a_channel_that_nobody_reads_is_left_alone() -> None:
    channel = run([], 5)
    assert channel.written == pytest.approx(0.0, abs=0.2) and channel.ages == []


def test_a_look_that_was_missed_by_a_hair_is_not_missed_again_and_again() -> None:
    rhythm = known()
    rhythm.wrote(3.01)  # our timer was late: the client has just looked at 3.0
    for n in range(9):
        rhythm.look(3.1 + n / 10, full=True)
    rhythm.look(4.05, full=False)
    assert rhythm.write_at(4.1) == pytest.approx(3.9 + PERIOD_S - BEFORE_S), "the rhythm is still known"


def test_a_value_that_comes_just_after_a_look_waits_for_the_next() -> None:
    rhythm = known()
    assert rhythm.write_at(2.5) == pytest.approx(3.0 - BEFORE_S)
    assert rhythm.write_at(2.99) == 2.99, "the client may not have looked yet"
    assert rhythm.write_at(3.2) == pytest.approx(4.0 - BEFORE_S), "it would be old by then"
    assert rhythm.write_at(5.5) == pytest.approx(6.0 - BEFORE_S)


def known() -> Rhythm:
    """A rhythm that knows a client which looks at every full second."""
    rhythm = Rhythm()
    for second in (1.0, 2.0):
        rhythm.wrote(second - 0.5)
        rhythm.look(second, full=True)
        rhythm.look(second + 0.1, full=False)
    return rhythm
