"""A program and all that descends from it, whatever it does: started, suspended, counted and ended as one.

A small protocol, and for each system a class of its own: `linux`, `macos`, `windows`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from ..errors import HostError

if TYPE_CHECKING:
    from .program import Program


class Tree(Protocol):
    """A program and all that descends from it. Each verb but `start` may be called at any time, and again."""

    @property
    def running(self) -> bool:
        """The program was started and has not ended."""

    async def start(self) -> None:
        """Start the program.

        :raise CommandFailed: it cannot be started; nothing is left.
        """

    def suspend(self) -> None:
        """Let all of it stand still."""

    def resume(self) -> None:
        """Let all of it run."""

    def ask(self) -> None:
        """Ask all of it to end, also what stands still."""

    def cpu_seconds(self) -> float:
        """Return the CPU time so far, user and system, of all of it that has ever run. It never becomes less."""

    async def wait(self) -> int:
        """Return how the program has ended: its exit status, or minus the number of a signal.

        :raise HostError: nobody knows.
        """

    async def end(self) -> None:
        """End all of it; when this returns nothing is left.

        :raise HostError: something is: the kernel could not end it.
        """


def tree_of(program: Program, *, use_tstp: bool = False, output: int | None = None) -> Tree:
    """Return the tree of `program` for this system.

    With `use_tstp` it is suspended by SIGTSTP, for which it may prepare itself, where there are such signals. Streams
    without a file go to the descriptor `output`, if there is one.

    :raise HostError: programs cannot be run on this system.
    """
    if sys.platform == "linux":
        from .linux import LinuxTree

        return LinuxTree(program, use_tstp=use_tstp, output=output)
    if sys.platform == "win32":
        from .windows import KernelCalls, WindowsTree

        return WindowsTree(program, KernelCalls(), output=output)
    if sys.platform == "darwin":
        from .macos import MacTree

        return MacTree(program, use_tstp=use_tstp, output=output)
    raise HostError(f"programs cannot be run on {sys.platform} yet. Use Linux")
