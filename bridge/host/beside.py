"""Programs that run while others do: daemons and helpers. Ended with all that they have started, whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from logging import getLogger

from .program import Program
from .tree import Tree, tree_of

logger = getLogger(__name__)

CPU_EVERY_S = 10.0
"""Counting looks at every process of the host, for each of the programs."""


class Beside:
    """Programs that run, and may be told to stand still."""

    def __init__(self) -> None:
        self._trees: list[Tree] = []
        self._held = False
        self._cpu_seconds = 0.0
        self._counted_at = -CPU_EVERY_S

    def cpu_seconds(self) -> float:
        """Return the CPU time so far of them and all that they have started, as it was a few seconds ago."""
        if (now := time.monotonic()) >= self._counted_at + CPU_EVERY_S:
            self._counted_at = now
            self._cpu_seconds = sum(tree.cpu_seconds() for tree in self._trees)
        return self._cpu_seconds

    def hold(self) -> None:
        """Let them stand still, until `release`."""
        if not self._held:
            self._held = True
            for tree in self._trees:
                tree.suspend()

    def release(self) -> None:
        """Let them run."""
        if self._held:
            self._held = False
            for tree in self._trees:
                tree.resume()

    def _add(self, tree: Tree) -> None:
        self._trees.append(tree)
        if self._held:
            tree.suspend()


@asynccontextmanager
async def beside(programs: Iterable[Program], tree: Callable[[Program], Tree] = tree_of) -> AsyncIterator[Beside]:
    """Have `programs` run for the time of the block, started in their order. `tree` says how one is run.

    One that ends by itself is told in the log and not started again.

    :raise CommandFailed: one cannot be started; those before it are ended.
    :raise HostError: one could not be ended; the others are.
    """
    running = Beside()
    async with AsyncExitStack() as stack:
        for program in programs:
            one = tree(program)
            stack.push_async_callback(one.end)
            await one.start()
            running._add(one)
            watching = asyncio.create_task(_watch(program, one))
            stack.callback(watching.cancel)
        yield running


async def _watch(program: Program, tree: Tree) -> None:
    try:
        status = await tree.wait()
    except Exception as error:
        logger.warning("%s, which runs beside the job, is lost: %s", program.name, error)
    else:
        logger.warning("%s, which runs beside the job, has ended by itself with status %d", program.name, status)
