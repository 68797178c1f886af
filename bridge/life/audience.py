"""Who hears how a job goes, told so that their trouble (a full disk, a terminal that is gone) is not the job's."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Protocol, TypeVar

from .accounting import Progress
from .tables import State

logger = getLogger(__name__)

News = TypeVar("News")


class Audience(Protocol):
    """Who hears how the job goes: a person at a terminal, the BOINC client."""

    def runs_on(self, what: str) -> None:
        """This is what will run the machine, in the hypervisor's own words."""

    def state(self, state: State) -> None:
        """The job is in this state now."""

    def progress(self, progress: Progress) -> None:
        """This is how far it is; called for every change."""


class Told:
    """How far a job is, as its audience knows it."""

    def __init__(self, audience: Audience, progress: Progress) -> None:
        """The audience knows nothing yet: `progress` is where the job begins, and is not told."""
        self.audience = audience
        self.now = progress
        self._unheard = False

    def runs_on(self, what: str) -> None:
        """Tell what runs it."""
        self._tell(self.audience.runs_on, what)

    def state(self, state: State) -> None:
        """Tell which state it is in."""
        self._tell(self.audience.state, state)

    def progress(self, progress: Progress) -> None:
        """Note how far it is, and tell if that is anything new."""
        before, self.now = self.now, progress
        if progress != before:
            self._tell(self.audience.progress, progress)

    def _tell(self, listener: Callable[[News], None], news: News) -> None:
        try:
            listener(news)
        except Exception as error:
            if not self._unheard:
                logger.warning("nobody can be told how the job goes: %r", error)
            self._unheard = True
