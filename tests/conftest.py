"""What all tests share: repository paths, and the agents and tools that are compiled once for a test run."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What can be preloaded into a process: calls that fail, a journal of what is not durable, another time of day."""
    from .chaos.round import compiled  # which wants to know where the checkout is

    return compiled(tmp_path_factory.mktemp("libraries"))
