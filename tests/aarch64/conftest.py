"""What these tests share with the integration tests, and their image."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import REPOSITORY
from ..integration import conftest as integration

IMAGE = REPOSITORY / "build" / "image-aarch64"

make_job = integration.make_job
make_slot = integration.make_slot


@pytest.fixture(scope="session")
def image() -> Path:
    """The image that `make test-aarch64` built."""
    if not (IMAGE / "image.json").exists():
        pytest.fail("there is no build/image-aarch64: run `make test-aarch64`")
    return IMAGE


__all__ = ["image", "make_job", "make_slot"]
