"""The quit that gets lost: a client that limits the use of the processor usually loses that of its own shutdown."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .clock import FastClock
from .conftest import Rig, open_rig
from .long_life import HALF, OUTPUTS, WORD, goes_on, is_right, long_lived, restored, taken
from .machines import begun, fraction_done, packaged, said

QUITS = int(os.environ.get("QUITS", "3"))
SPEED = float(os.environ.get("CLIENT_SPEED", "3"))
"""So many shutdowns does one job live through, with a client so fast; `make quits` has ten, by the true clock."""


@pytest.fixture(scope="module")
def slower(clock: FastClock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A client that leaves a program more than twelve seconds of the minute: it hears nothing in the first five."""
    slow = FastClock(clock.library, time.time(), SPEED)
    folder = tmp_path_factory.mktemp("quits")
    with packaged(*OUTPUTS) as bundle, open_rig(slow, folder, anonymous=bundle, preferences=HALF) as rig:
        yield rig


def test_nothing_is_lost_when_a_quit_is(slower: Rig, tmp_path: Path) -> None:
    """A client that limits the use of the processor usually loses the quit of its own shutdown, and kills.

    A machine whose client's last word was `suspend` used to be killed unsaved.
    """
    client = slower.client
    science = long_lived(tmp_path)
    job = begun(slower, science.job("quitter", steps=30 * (QUITS + 1)))
    lost, shown = 0, 0.0
    for quits in range(QUITS):
        client.wait(lambda: said(client).count("-> running: up") > quits, "the guest speaks")  # noqa: B023  # used up in this turn
        goes_on(slower, job, shown)
        before = said(client)
        client.quit()
        shown = fraction_done(client, job)
        told = said(client).removeprefix(before)
        lost += "the client says quit" not in told
        assert taken(told), f"nothing was saved: {told}"
        client.start()
        client.wait(lambda: len(restored(said(client))) > quits, "the machine is restored")  # noqa: B023  # likewise
        number, done = restored(said(client))[-1]
        assert number == taken(told)[-1]
        assert done >= round(shown, 3), f"shutdown {quits + 1}: {shown:.2%} were done, and {done:.1%} are now"
    print(f"{lost} of {QUITS} quits got lost, and nothing with them")
    slower.server.trickle_down(job.result, WORD)
    is_right(slower, job, science, tmp_path / "host")
