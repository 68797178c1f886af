"""What the programs of a host have left is durable."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import HostError
from bridge.job import HostTask, Job
from bridge.settle import settle


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: names.append(Path(f"/proc/self/fd/{fd}").resolve().name))
    return names


def test_all_but_the_machine_is_durable(tmp_path: Path, synced: list[str]) -> None:
    slot = tmp_path / "slot"
    for name in ("slot/sub/deep", "slot/machine", "slot/.vmbridge.machine.0", "project"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a", "sub/deep/b", "machine/disk", ".vmbridge.machine.0/disk", "out", "../project/result"):
        (slot / name).write_text("x")
    (slot / "link").symlink_to("/etc/passwd")
    os.mkfifo(slot / "fifo")
    resolve = lambda path: tmp_path / "project/result" if path.name == "out" else path  # noqa: E731
    settle(replace(Job(slot / "job.xml", (HostTask("worker"),)), resolve=resolve))
    assert sorted(synced) == ["a", "b", "deep", "out", "project", "result", "slot", "sub"]


def test_a_disk_that_fails_is_the_hosts_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(HostError, match="make durable what the programs have left"):
        settle(Job(tmp_path / "job.xml", (HostTask("worker"),)))
