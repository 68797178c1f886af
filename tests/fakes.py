"""Stand-ins for the neighbours, passed in where the real ones would be too slow for a unit test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from bridge.errors import HypervisorError
from bridge.hypervisors import Condition, MachineSpec, MachineState
from bridge.life.accounting import Progress
from bridge.life.tables import State

Script = Callable[["FakeMachine"], None]


class FakeMachine:
    """A hypervisor whose guest is a script of `(seconds, what happens then)`."""

    one_folder = False
    needs_image = False

    def __init__(self, spec: MachineSpec, script: Iterable[tuple[float, Script]] = ()) -> None:
        self.guest = spec.share.guest
        self.out = self.guest / "out"
        self.calls: list[str] = []
        self.cpu_seconds = 0.0
        self.console = ""
        self.fail_at: str | None = None
        self._script = list(script)
        self._state = MachineState.ABSENT
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def say(self, name: str, content: str) -> None:
        """Write one of the guest's files as a guest does."""
        temporary = self.guest / f".{name}.tmp"
        temporary.write_text(content)
        temporary.replace(self.guest / name)

    def result(self, name: str, content: str) -> None:
        """Write an output."""
        self.out.mkdir(exist_ok=True)
        (self.out / name).write_text(content)

    def die(self, reason: str) -> None:
        """End by itself."""
        self._state = MachineState.GONE
        if not self._ended.done():
            self._ended.set_result(reason)

    def _called(self, verb: str) -> None:
        self.calls.append(verb)
        if verb == self.fail_at:
            raise HypervisorError(f"{verb} failed on purpose")

    async def probe(self) -> str:
        return "a fake"

    async def start(self) -> None:
        self._called("start")
        self._state = MachineState.RUNNING
        for delay, act in self._script:
            asyncio.get_running_loop().call_later(delay, act, self)

    async def pause(self) -> None:
        self._called("pause")

    async def resume(self) -> None:
        self._called("resume")

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    async def stop(self) -> None:
        self._called("stop")
        self.die("stopped")

    async def remove(self) -> None:
        self._called("remove")
        self.die("removed")
        self._state = MachineState.ABSENT

    def examine(self) -> Condition:
        return Condition(self._state, self.cpu_seconds, self.console)


class Recorder:
    """An audience that remembers."""

    def __init__(self) -> None:
        self.on = ""
        self.states: list[State] = []
        self.figures: list[Progress] = []

    def runs_on(self, what: str) -> None:
        self.on = what

    def state(self, state: State) -> None:
        self.states.append(state)

    def progress(self, progress: Progress) -> None:
        self.figures.append(progress)


def spec(directory: Path) -> MachineSpec:
    """A machine in `directory` with two exports, which exist."""
    from protocol.layout import Share

    share = Share.two_folders(directory / "shared")
    share.host.mkdir(parents=True)
    share.guest.mkdir()
    (directory / "machine").mkdir()
    return MachineSpec("vm", directory / "machine", share, None, 256, 1)
