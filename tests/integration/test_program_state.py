"""A program that saves its own state goes on from it when no machine can be restored, in real machines and without."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import REPOSITORY
from ..patience import AT_MOST_S, until
from .conftest import ENVIRONMENT, JobDirectory
from .test_going_on import App, end

GUEST = REPOSITORY / "build" / "guest"
STEPS = 100
ELEMENTS = (
    "<copy_file_from_VM>log.txt</copy_file_from_VM><checkpoint_period>{period}</checkpoint_period>"
    "<checkpoint_filename>state</checkpoint_filename><checkpoint_filename>log.txt</checkpoint_filename>"
)


def result() -> str:
    lines, value = [], 1
    for n in range(1, STEPS + 1):
        value = (value * 6364136223846793005 + 1442695040888963407) % (1 << 63)
        lines.append(f"{n} {value}\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program in C that calls every function that there is."""
    return built(tmp_path_factory.mktemp("chain"), "every.c", "cc")


def built(folder: Path, name: str, *compiler: str) -> Path:
    """Compile a program of the folder `programs`, which does the work of its chain.h, and link it with the library."""
    library = [f"-I{GUEST / 'include'}", f"-L{GUEST / 'x86_64'}", "-lboinc_api", "-lpthread"]
    source = REPOSITORY / "tests" / "programs" / name
    subprocess.run([*compiler, "-O1", "-static", "-o", folder / "chain", source, *library], check=True)
    return folder / "chain"


class Chain(App):
    """`vmbridge-app` with the chain, started as often as needed."""

    def __init__(self, job: JobDirectory, *words: str) -> None:
        super().__init__(job)
        self.words = list(words)

    def start(self) -> subprocess.Popen[str]:
        code = f"from bridge.app import main; raise SystemExit(main({self.words}))"
        with self.stderr.open("a") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", code], stderr=stderr, text=True, env=ENVIRONMENT, cwd=self.path
            )
        self.job.started.append(process)
        return process

    def sets(self) -> list[str]:
        folder = self.path / "machine/saved"
        return sorted(name for name in os.listdir(folder) if name.isdigit()) if folder.exists() else []

    def finish(self) -> None:
        """Start it until it has come to its end: a machine that cannot be restored is tried in three starts."""
        for _ in range(5):
            before = self.stderr.read_text().count("staging -> booting")
            process = self.start()
            until(lambda: self._ends(process, before), self.stderr.read_text)  # noqa: B023
            assert process.returncode == 0
            if (self.path / "boinc_finish_called").exists():
                break
            (self.path / "boinc_temporary_exit").unlink()
        assert (self.path / "boinc_finish_called").read_text().startswith("0\n"), self.stderr.read_text()
        assert (self.path / "log.txt").read_text() == result()
        left = set(os.listdir(self.path)) - {*self.given, "log.txt", "stderr.txt"}
        assert left == {"boinc_finish_called", ".vmbridge.home"}
        assert self.job.machines() == []

    def _ends(self, process: subprocess.Popen[str], before: int) -> bool:
        """Let the program come to its end, once this start has made its share; say whether it has."""
        if self.stderr.read_text().count("staging -> booting") > before:
            with contextlib.suppress(FileNotFoundError):
                (self.path / "shared/host/go").touch()
        return process.poll() is not None

    def goes_on_from_files(self) -> bool:
        return self.said("the program goes on from what it has saved itself, ") and not self.said("begins anew")


def test_a_broken_disk_of_the_machine(make_job: Callable[..., JobDirectory], program: Path) -> None:
    app = Chain(make_job(program, ELEMENTS.format(period=1)))
    process = app.start()
    app.wait_until_said("checkpoint checkpoint-1 taken")
    app.wait_until_said("what the program has saved itself is kept")
    app.job.machines()[0].kill()
    assert process.wait(timeout=AT_MOST_S) == 0
    (app.path / "boinc_temporary_exit").unlink()
    assert app.states() and app.sets()
    (app.path / "machine/work.qcow2").write_bytes(b"nothing")
    app.finish()
    assert app.goes_on_from_files(), app.stderr.read_text()


def test_another_qemu(make_job: Callable[..., JobDirectory], program: Path) -> None:
    """Its machines are of another kind than those that were saved; it used to begin anew."""
    app = Chain(make_job(program, ELEMENTS.format(period=1)))
    process = app.start()
    app.wait_until_said("what the program has saved itself is kept")
    assert end(process, signal.SIGTERM) == 0
    assert app.states() and app.sets()
    record = app.path / "machine/checkpoints.json"
    content = json.loads(record.read_text())
    content["description"]["version"] = "1.0"
    record.write_text(json.dumps(content))
    app.finish()
    assert app.said("checkpoints of another kind of machine are not used")
    assert app.goes_on_from_files(), app.stderr.read_text()


def test_a_machine_that_is_restored_goes_before(make_job: Callable[..., JobDirectory], program: Path) -> None:
    """Its guest counts its states from before what the host knows, and both sides bear that."""
    app = Chain(make_job(program, ELEMENTS.format(period=1)))
    process = app.start()
    app.wait_until_said("checkpoint checkpoint-1 taken")
    until(lambda: app.sets() and int(app.sets()[-1]) >= 3, app.stderr.read_text)
    end(process, signal.SIGKILL)
    until(lambda: app.job.machines() == [])
    before = app.sets()
    process = app.start()
    app.wait_until_said("restored from checkpoint-")
    until(lambda: app.sets() not in ([], before), app.stderr.read_text)
    assert end(process, signal.SIGTERM) == 0
    app.finish()
    assert not app.said("goes on from what it has saved itself")


def test_without_a_machine(make_job: Callable[..., JobDirectory], program: Path) -> None:
    """Quit: the program is asked for its state. Killed: it goes on from the last one."""
    app = Chain(make_job(program, ELEMENTS.format(period=1000)), "--hypervisor", "local")
    process = app.start()
    app.wait_until_runs(1)
    assert end(process, signal.SIGTERM) == 0
    assert len(app.sets()) == 1 and not (app.path / "machine/work").exists()
    process = app.start()
    app.wait_until_runs(2)
    end(process, signal.SIGKILL)
    until(lambda: app.job.machines() == [])
    app.finish()
    assert app.stderr.read_text().count("goes on from what it has saved itself, ") == 2
