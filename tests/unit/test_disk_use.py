"""What a job takes of the disk: counted as the client does, whatever a guest does to the counting."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.client.init_data import InitData
from bridge.errors import BridgeError, OverBound
from bridge.for_client import _largest_file, mind_disk
from bridge.life import disk_use
from bridge.life.disk_use import MOST_DEPTH, over_bound, used_bytes

from ..patience import AT_MOST_S


def nested(folder: Path, depth: int) -> Path:
    """Make folders in folders as a guest can, by names that do not add up to a path."""
    for _ in range(depth):
        folder = folder / "x"
    folder.mkdir(parents=True)
    return folder


def test_apparent_sizes_count_and_links_do_not(tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    with (tmp_path / "machine/sparse").open("wb") as file:
        file.truncate(1 << 40)
    (nested(tmp_path, MOST_DEPTH) / "deep").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("/" * 100)
    (tmp_path / "other").symlink_to(tmp_path / "machine")
    os.mkfifo(tmp_path / "pipe")
    links = len("/" * 100) + len(str(tmp_path / "machine"))
    assert used_bytes(tmp_path) == (1 << 40) + 5 + links
    assert used_bytes(tmp_path / "gone") == 0


def test_nothing_can_be_hidden_below_too_many_folders(tmp_path: Path) -> None:
    """A path that is longer than a path may be used to be left out."""
    (nested(tmp_path, MOST_DEPTH + 1) / "deep").touch()
    with pytest.raises(OverBound, match=f"more than {MOST_DEPTH} deep"):
        used_bytes(tmp_path)


def test_the_counting_ends_however_many_files_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_use, "MOST_FILES", 100)
    for number in range(100):
        (tmp_path / str(number)).mkdir()
    assert used_bytes(tmp_path) == 0
    (tmp_path / "1/one more").touch()
    with pytest.raises(OverBound, match="more than 100 files"):
        used_bytes(tmp_path)


def test_wide_folders_take_no_more_descriptors_than_deep_ones(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_bytes(b"1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = max(map(int, os.listdir("/proc/self/fd"))) + 10
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
    try:
        assert used_bytes(tmp_path) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_bound_is_named() -> None:
    assert over_bound(1 << 40, 0) is None, "no bound"
    assert over_bound(5, 5) is None
    error = over_bound(3 << 30, 2e9)
    assert str(error) == "the job takes 3,072 MB of the disk, and the project allows it 1,907 (rsc_disk_bound)"


def minded(folder: Path, bound: float, change: Callable[[], None]) -> BridgeError:
    """What the job is told to fail by."""

    async def go() -> BridgeError:
        failed: asyncio.Future[BridgeError] = asyncio.get_running_loop().create_future()

        def fail(error: BridgeError) -> None:
            if not failed.done():
                failed.set_result(error)

        minding = asyncio.create_task(mind_disk(folder, bound, fail, every_s=0.01))
        await asyncio.sleep(0.05)
        assert not failed.done()
        change()
        try:
            return await asyncio.wait_for(failed, AT_MOST_S)
        finally:
            minding.cancel()

    return asyncio.run(go())


def test_a_job_that_grows_beyond_its_bound_fails(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(bytes(1000))

    def change() -> None:
        (tmp_path / "more").write_bytes(b"1")

    assert "rsc_disk_bound" in str(minded(tmp_path, 1000.0, change))


def test_so_does_one_that_cannot_be_counted(tmp_path: Path) -> None:
    def change() -> None:
        nested(tmp_path, MOST_DEPTH + 1)

    assert "deep" in str(minded(tmp_path, 0.0, change))


@pytest.mark.parametrize(("bound", "largest"), [(0.0, None), (2e9, 2_000_000_000), (1e300, 2**63 - 1)])
def test_no_file_alone_may_be_larger_than_the_bound(bound: float, largest: int | None) -> None:
    assert _largest_file(InitData(rsc_disk_bound=bound)) == largest
    assert _largest_file(None) is None
