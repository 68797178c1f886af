"""Stand-ins for the neighbours, passed in where the real ones would be too slow for a unit test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from bridge.errors import HypervisorError
from bridge.hypervisors import Condition, MachineSpec, MachineState
from bridge.life.accounting import Progress
from bridge.life.tables import State
from protocol.codec import decode
from protocol.messages import Command, HostState

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

    def follow(self, *script: tuple[float, Script]) -> None:
        """Let this happen too, so many seconds after the start."""
        self._script += script

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
        if self.fail_at == "probe":
            raise HypervisorError("probe failed on purpose")
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


class FakeNetworkedMachine(FakeMachine):
    """A machine with a network card."""

    async def connect(self, connected: bool) -> None:
        self._called("connect" if connected else "disconnect")


class FakeObeyingMachine(FakeMachine):
    """A machine whose guest obeys `command` as an agent does. Asked to save its program's state, it saves `state`.

    A test may set what goes wrong: a guest that is `deaf`, or that will not `let_go`.
    """

    def __init__(self, spec: MachineSpec, script: Iterable[tuple[float, Script]] = ()) -> None:
        super().__init__(spec, script)
        self._command = spec.share.host / "command"
        self._seq = 0
        self.obeyed: list[Command] = []
        self._mounted = True
        self._stands_still = False
        self._guest: asyncio.Task[None] | None = None
        self._sets = 0
        self.state: dict[str, str] = {}
        self.deaf = False
        self.let_go = True
        self.speaks = True
        self.heartbeat = 0

    def save_state(self) -> None:
        """Publish `state` as the program's own."""
        self._sets += 1
        (self.guest / "saved").mkdir(exist_ok=True)
        for name, content in self.state.items():
            (self.guest / "saved" / name).write_text(content)
        self.say(f"saved.{self._sets}", "".join(f"file {name}\n" for name in self.state))

    async def start(self) -> None:
        await super().start()
        self._guest = asyncio.create_task(self._obey())

    async def _obey(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            if self._stands_still:
                continue
            command = decode("command", self._command.read_bytes()) if self._command.exists() else None
            if self.deaf or not isinstance(command, Command) or command.seq <= self._seq:
                continue
            self._seq = command.seq
            self.obeyed.append(command)
            if command.state is HostState.SAVE and self.state:
                self.save_state()
            if self.speaks:
                self.heartbeat += 1
                can = {HostState.PREPARE: self.let_go, HostState.SAVE: bool(self.state)}
                answer = "ack" if can.get(command.state, True) else "refused"
                self.say("status", f"protocol 1\nstate running\nheartbeat {self.heartbeat}\n{answer} {self._seq}\n")
            self._mounted = command.state is not HostState.PREPARE or not self.let_go

    def die(self, reason: str) -> None:
        super().die(reason)
        if self._guest is not None:
            self._guest.cancel()


class FakeSavingMachine(FakeObeyingMachine):
    """One that can be saved. `saved` holds the tags, `copies` those in each copy; a test may set what goes wrong: a
    guest that `comes_back` too early, a saving that fails.
    """

    def __init__(self, spec: MachineSpec, script: Iterable[tuple[float, Script]] = ()) -> None:
        super().__init__(spec, script)
        self.saved: list[str] = []
        self.copies: dict[str, list[str]] = {}
        self.made_of = {"memory_mb": "256"}
        self.comes_back = False

    async def restore(self, tag: str) -> None:
        self.calls.append(f"restore {tag}")
        if tag not in self.saved or self.fail_at == "restore":
            raise HypervisorError(f"there is no {tag}")
        await self.start()
        self.calls.pop()

    async def pause(self) -> None:
        await super().pause()
        self._stands_still = True
        self._mounted = self._mounted or self.comes_back

    async def resume(self) -> None:
        await super().resume()
        self._stands_still = False

    async def description(self) -> dict[str, str]:
        return self.made_of

    async def held_back(self) -> str | None:
        return "the share is mounted" if self._mounted else None

    async def save(self, tag: str) -> None:
        self._called(f"save {tag}")
        self.saved.append(tag)

    async def forget_all_but(self, tags: Collection[str], copy: str | None = None) -> None:
        self.calls.append("forget")
        self.saved = [tag for tag in self.saved if tag in tags]
        self.copies = {tag: held for tag, held in self.copies.items() if tag == copy}


class FakeCopyingMachine(FakeSavingMachine):
    """One whose saved states lie in one file, which is copied."""

    def copy_bytes(self) -> int:
        return 1000

    async def copy(self, tag: str) -> None:
        self._called(f"copy {tag}")
        self.copies[tag] = list(self.saved)

    async def sync_copy(self, tag: str) -> None:
        self._called(f"sync {tag}")

    async def put_back(self, tag: str) -> None:
        self._called(f"put back {tag}")
        self.saved = self.copies.pop(tag, self.saved)


class FakeApartMachine(FakeSavingMachine):
    """One whose saved states have a disk each. It needs its time to be paused."""

    away_s = 2.5

    def disk_bytes(self) -> int:
        return 5000


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
