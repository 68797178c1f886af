"""Prove on a real share what the protocol relies on: rename, ordering and visibility.

The host's side is this module, the guest's the shell script `verify_share.sh` beside it. They work in two folders that
both sides see; how these came to be shared (9p, virtiofs, a plain directory) does not matter.

rename      a reader sees a file's old content or its new content, whole, and never no file in between
ordering    a reader that sees what was written second also sees what was written first, and no value comes back
visibility  what one side has renamed into place the other sees soon, in both directions

`python -m protocol.verify_share HOST GUEST` tries two folders of this machine. With `--elsewhere` it waits for the
script to be run by a real guest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .files import Door, write_atomic

SCRIPT = Path(__file__).with_name("verify_share.sh")
"""The guest's side: `sh verify_share.sh HOST GUEST ROUNDS`."""

LINES = 200
"""How often a value is repeated in a file, so that a part of the file would show."""

_LIMIT = 1 << 20


class ShareBroken(Exception):
    """The share does not keep a promise that the protocol relies on; the message says which, and what was seen."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen while nothing was broken: reads in all, distinct values, and calls that the guest answered."""

    reads: int
    values: int
    answers: int


class Verifier:
    """The host's side. Call `look` again and again until it returns True."""

    def __init__(self, host: Path, guest: Path) -> None:
        self._host = host
        self._door = Door(guest)
        self._highest = {"verify_first": 0, "verify_second": 0}
        self._values: set[int] = set()
        self._reads = 0
        self._called = 0

    @property
    def proof(self) -> Proof:
        """What was seen so far."""
        return Proof(self._reads, len(self._values), max(0, self._called - 1))

    def look(self) -> bool:
        """Look at all files once; return whether the guest is done and all it said has been seen.

        :raise ShareBroken: a promise was broken.
        """
        done = self._number("verify_done")
        second = self._whole("verify_second")
        first = self._whole("verify_first")  # read later, but written earlier: it must not be behind
        if first < second:
            raise ShareBroken(f"ordering: value {second} was seen in the second file, but only {first} in the first")
        self._values.add(first)
        self._call()
        if done and (first, second) != (done, done):
            raise ShareBroken(
                f"visibility: the guest was done with {done}, but {first} and {second} were seen after that"
            )
        return done > 0

    def _call(self) -> None:
        answered = self._number("verify_echo")
        if answered > self._called:
            raise ShareBroken(f"visibility: call {answered} was answered before it was made")
        if answered == self._called:
            self._called += 1
            write_atomic(self._host / "verify_call", f"{self._called}\n".encode(), durable=False)

    def _whole(self, name: str) -> int:
        data = self._door.read(name, _LIMIT)
        self._reads += 1
        if data is None:
            if self._highest[name]:
                raise ShareBroken(f"rename: {name} was gone after value {self._highest[name]}")
            return 0
        lines = data.split(b"\n")
        if len(lines) != LINES + 1 or len(set(lines[:-1])) != 1 or lines[-1]:
            raise ShareBroken(
                f"rename: {name} was seen in part, {len(data)} bytes with {len(set(lines))} different lines"
            )
        value = int(lines[0])
        if value < self._highest[name]:
            raise ShareBroken(f"ordering: value {value} came back in {name} after {self._highest[name]}")
        self._highest[name] = value
        return value

    def _number(self, name: str) -> int:
        data = self._door.read(name, _LIMIT)
        return int(data) if data else 0


def verify(host: Path, guest: Path, *, silence_s: float) -> Proof:
    """Watch a guest that runs the script in these folders until it is done.

    :raise ShareBroken: a promise was broken, or nothing new was seen for `silence_s` seconds.
    """
    verifier = Verifier(host, guest)
    deadline, values = time.monotonic() + silence_s, 0
    while not verifier.look():
        if verifier.proof.values > values:
            deadline, values = time.monotonic() + silence_s, verifier.proof.values
        if time.monotonic() > deadline:
            raise ShareBroken(
                f"visibility: nothing new from the guest for {silence_s:g} seconds; seen so far: {verifier.proof}"
            )
        time.sleep(0)  # another process may need the processor to write
    return verifier.proof


def main() -> None:
    """Try two folders and exit with 0 if they keep all promises, with 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m protocol.verify_share", description="Try a share's promises.")
    parser.add_argument("host", type=Path, help="the folder that the host writes")
    parser.add_argument("guest", type=Path, help="the folder that the guest writes")
    parser.add_argument("--rounds", type=int, default=2000, metavar="N", help="how many values the guest writes")
    parser.add_argument("--elsewhere", action="store_true", help="the script is run by a guest, not by this program")
    options = parser.parse_args()
    script = ["sh", str(SCRIPT), str(options.host), str(options.guest), str(options.rounds)]
    writer = None if options.elsewhere else subprocess.Popen(script)
    if writer is None:
        print(f"Run in the guest, with its own names of the folders: {' '.join(script)}", flush=True)
    try:
        print(verify(options.host, options.guest, silence_s=60))
    except (ShareBroken, OSError) as error:
        sys.exit(f"broken: {error}")
    finally:
        if writer is not None:
            writer.kill()
            writer.wait()


if __name__ == "__main__":
    main()
