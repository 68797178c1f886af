"""A connection to the libvirt of this computer: opened with a limit on its patience, closed so that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from logging import getLogger
from typing import Any

from ...errors import CommandFailed, HypervisorError
from .binding import binding, call, hand_over
from .uri import refuse_elsewhere

logger = getLogger(__name__)

_CLOSED_WITHIN_S = 10.0


class Connection:
    """An open connection. `raw` is the library's; `uri` and `version` are its daemon's."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.uri = self.version = ""
        self._forgetting: list[Callable[[], object]] = []

    @classmethod
    async def open(cls, keepalive: tuple[int, int], lost: Callable[[], None]) -> Connection:
        """Connect to what libvirt's own settings name. `lost` is called when its daemon has ended or hangs: when it
        has not answered so often, at intervals of so many seconds.

        :raise HypervisorError: nobody is there, this user may not, or its machines run elsewhere.
        """
        libvirt, _ = binding()
        if named := os.environ.get("LIBVIRT_DEFAULT_URI"):
            refuse_elsewhere(named)  # before anybody is asked for a password
        try:
            found = cls(await call("connect", libvirt.open, None))
        except CommandFailed as error:
            raise _explained(error) from error
        try:
            await found._begin(keepalive, lost)
        except BaseException:
            await found.close()
            raise
        return found

    async def _begin(self, keepalive: tuple[int, int], lost: Callable[[], None]) -> None:
        self.uri = str(await call("ask for its address", self.raw.getURI))
        refuse_elsewhere(self.uri)
        self.version = _version(await call("ask for its version", self.raw.getLibVersion))
        await call("keep alive", self.raw.setKeepAlive, *keepalive)
        loop = asyncio.get_running_loop()
        await call("watch", self.raw.registerCloseCallback, lambda *_: hand_over(loop, lost), None)
        self.at_close(self.raw.unregisterCloseCallback)

    def at_close(self, forget: Callable[[], object]) -> None:
        """Have `forget` called, in a thread, before the connection is closed: the last first."""
        self._forgetting.append(forget)

    async def listen(self, machine: uuid.UUID, events: Mapping[int, Callable[..., None]]) -> None:
        """Hear of `machine`, by the numbers of libvirt's events.

        :raise CommandFailed: libvirt does not allow it.
        """
        loop = asyncio.get_running_loop()

        def listener(hear: Callable[..., None]) -> Callable[..., None]:
            def heard(connection: Any, domain: Any, *said: Any) -> None:
                if domain.UUID() == machine.bytes:
                    hand_over(loop, partial(hear, *said))

            return heard

        for event, hear in events.items():
            number = await call("listen", self.raw.domainEventRegisterAny, None, event, listener(hear), None)
            self.at_close(partial(self.raw.domainEventDeregisterAny, number))

    async def close(self) -> None:
        """Close it, so that what hangs on it ends. What still listens would keep it open."""
        libvirt, _ = binding()

        def close() -> None:
            while self._forgetting:
                with contextlib.suppress(libvirt.libvirtError):  # of a connection that is lost, say
                    self._forgetting.pop()()
            if left := self.raw.close():
                logger.debug("the connection to libvirt is still used %d times", left)

        with contextlib.suppress(CommandFailed):
            await call("close", close, within_s=_CLOSED_WITHIN_S)


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _explained(error: CommandFailed) -> HypervisorError:
    """Return why libvirt cannot be spoken to, in the words of `vmbridge doctor` if it knows them."""
    from ..said import recognised

    finding = recognised(str(error))
    return error if finding is None else HypervisorError(f"{finding.sentence} ({error})")
