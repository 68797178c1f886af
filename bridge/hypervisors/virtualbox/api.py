"""VirtualBox by its API and pyvbox: a process of its own (`worker.py`), which is asked and tells by lines of JSON.

The API's calls may hang for ever, and no thread that hangs in one can be ended; a process can. And `vboxapi` is mostly
there for the system's Python only, which is not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from logging import getLogger
from pathlib import Path
from typing import Any

from ...errors import CommandFailed, HypervisorError
from ...trees import remove_tree
from ..child import Child, clean_environment, run_briefly
from .control import SAVED_WITHIN_S
from .plan import Plan, environment, machine_name
from .service import end_service, hangs

logger = getLogger(__name__)

_NAME = "VirtualBox's API"

HEARD_EVERY_S = 15.0
"""The service is heard of every five seconds; a host may be busy."""

_START = (
    "import sys; from importlib.machinery import PathFinder; "
    "found = PathFinder.find_spec('worker', [sys.argv.pop(1)]); "
    "exec(found.loader.get_code('worker'), {'__name__': '__main__'})"
)
"""Runs the worker from a folder, or from one in a zip."""

_SYSTEM = "/usr/bin/python3"
_FOUND: dict[tuple[str, ...], tuple[str, str] | None] = {}
"""What `interpreter` has found, by those among which it has looked."""


def interpreters() -> tuple[str, ...]:
    """Return the Pythons that may have the API, in the order in which they are tried."""
    found = (sys.executable, shutil.which("python3"), _SYSTEM if os.path.exists(_SYSTEM) else None)
    return tuple(dict.fromkeys(filter(None, found)))


async def interpreter(place: Path) -> tuple[str, str] | None:
    """Return the Python that can load the API, and its name for people; None if there is none.

    To load it is to start a service. It has a registry of its own in the folder `place`, which is there for that only;
    both are gone afterwards.
    """
    names = interpreters()
    if names not in _FOUND:
        try:
            _FOUND[names] = await _first(names, environment(place))
        finally:
            await asyncio.to_thread(end_service, place)
            await asyncio.to_thread(remove_tree, place)
    return _FOUND[names]


async def _first(names: Sequence[str], env: Mapping[str, str]) -> tuple[str, str] | None:
    for python in names:
        try:
            said = await run_briefly([*_words(python), "check", _pyvbox()], env)
        except HypervisorError as error:
            logger.debug("%s", error)
        else:
            return python, said.strip().splitlines()[-1]
    return None


def _words(python: str) -> list[str]:
    """Return how the worker is started: by itself, for the Python cannot load the package of which it is a part."""
    return [python, "-I", "-B", "-c", _START, os.path.dirname(os.path.abspath(__file__))]


def _pyvbox() -> str:
    """Return the folder, or the zip, in which pyvbox lies."""
    spec = importlib.util.find_spec("pyvbox")
    if spec is None or not spec.submodule_search_locations:
        raise CommandFailed("pyvbox is not installed")
    return os.path.dirname(os.path.abspath(spec.submodule_search_locations[0]))


class ByApi:
    """The `Control` of the machine in `directory`."""

    def __init__(self, directory: Path, python: str, within_s: float) -> None:
        self._directory = directory
        self._python = python
        self._within_s = within_s
        self._child = Child(_NAME)
        self._number = 0
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._heard_at = time.monotonic()
        self._state = ""
        self._deaf = self._hangs = False
        self.news = asyncio.Event()

    async def open(self) -> None:
        """Start the worker, and with it the service.

        :raise HypervisorError: it does not answer.
        """
        self._child, self._deaf, self._heard_at = Child(_NAME), False, time.monotonic()
        ours, theirs = socket.socketpair()
        words = [*_words(self._python), "serve", _pyvbox(), str(theirs.fileno()), machine_name(self._directory)]
        with theirs:
            try:
                env = clean_environment(**environment(self._directory))
                await self._child.start(words, pass_fds=[theirs.fileno()], env=env)
                reader, self._writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                await self.close()
                raise
        self._reading = asyncio.create_task(self._read(reader))
        try:
            await self._answered("hello", (), self._within_s)
        except BaseException:
            await self.close()
            raise

    async def make(self, plan: Plan) -> None:
        await self._ask("make", asdict(plan))

    async def state(self) -> str:
        return str(await self._ask("state"))

    async def now(self) -> str:
        if self._deaf or not self._child.running:
            return await self.state()
        if (silent_s := time.monotonic() - self._heard_at) > max(self._within_s, HEARD_EVERY_S):
            raise hangs(f"nothing was heard of VirtualBox's service for {silent_s:.0f} seconds")
        return self._state

    async def pause(self) -> None:
        await self._ask("pause")

    async def resume(self) -> None:
        await self._ask("resume")

    async def tags(self) -> list[str]:
        return list(await self._ask("tags"))

    async def take(self, tag: str) -> None:
        await self._ask("take", tag, within_s=SAVED_WITHIN_S)

    async def forget(self, tag: str) -> None:
        await self._ask("forget", tag, within_s=SAVED_WITHIN_S)

    async def go_back(self, tag: str) -> None:
        await self._ask("go_back", tag, within_s=SAVED_WITHIN_S)

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        await self._child.kill()
        if self._reading is not None:
            self._reading.cancel()

    async def _ask(self, verb: str, *words: Any, within_s: float = 0.0) -> Any:
        if self._hangs:
            raise hangs(f"VirtualBox's service hangs, so it is not asked ({verb})")
        if not self._child.running:  # it has failed by itself, and the machine has not
            logger.warning("VirtualBox's API has ended and is started again: %s", self._child.tail.strip()[-300:])
            await self.close()
            await self.open()
        return await self._answered(verb, words, max(within_s, self._within_s))

    async def _answered(self, verb: str, words: Sequence[Any], within_s: float) -> Any:
        assert self._writer is not None
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        line = json.dumps({"number": number, "verb": verb, "words": words})
        try:
            self._writer.write(line.encode() + b"\n")
            return await asyncio.wait_for(answer, within_s)
        except asyncio.TimeoutError:
            self._hangs = True
            await self.close()
            raise hangs(f"VirtualBox's API has not answered in {within_s:g} seconds ({verb})") from None
        except OSError as error:
            raise CommandFailed(f"VirtualBox's API cannot be asked: {error}") from error
        finally:
            self._asked.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            async for line in reader:
                self._heard_at = time.monotonic()
                self._take(json.loads(line))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._child.wait(), 2.0)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(CommandFailed(f"VirtualBox's API has failed: {self._child.tail.strip()[-600:]}"))

    def _take(self, said: dict[str, Any]) -> None:
        answer = self._asked.get(said.get("number", 0))
        if said.get("state"):
            self._state = said["state"]
            self.news.set()
        elif "deaf" in said:
            self._deaf = True
            logger.warning("nothing more is heard of VirtualBox, so it is asked: %s", said["deaf"])
        elif answer is not None and not answer.done():
            if "error" in said:
                answer.set_exception(CommandFailed(f"VirtualBox failed: {said['error']}"))
            else:
                answer.set_result(said["answer"])
