"""The real client: its data directory and settings, its start and end, and what its processes leave.

It is Debian's, unmodified. Run by root, the rig gives it to a user of its own, and hides the checkout from it in a
mount namespace; run by anybody else, the client has the same rights as the test.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil

from ..conftest import REPOSITORY
from .clock import FastClock
from .gui_rpc import GuiRpc, GuiRpcError, SeenResult
from .project import AppVersion
from .scheduler import app_info
from .server import AUTHENTICATOR, ProjectServer

T = TypeVar("T")

_PASSWORD = "open"
_SOCKET = "boinc_socket"
_OVERRIDE = "global_prefs_override.xml"
PATIENCE_S = 240.0
"""How long a test waits for anything: only one that fails waits that long."""

_STORY_LINES = 300

_OPTIONS = ("--gui_rpc_unix_domain", "--allow_multiple_clients", "--insecure")

_LOG_FLAGS = ("task", "task_debug", "app_msg_send", "app_msg_receive", "file_xfer", "sched_ops")

_SETTINGS = {
    # Nothing but our server is contacted.
    "dont_contact_ref_site": 1,
    "no_info_fetch": 1,
    "suppress_net_info": 1,
    # No request is made before the benchmarks.
    "skip_cpu_benchmarks": 1,
    "report_results_immediately": 1,
    "no_gpus": 1,
    "no_alt_platform": 1,
    # Lowest priority would starve beside a busy machine's other work.
    "no_priority_change": 1,
    "max_file_xfers": 4,
    "max_file_xfers_per_project": 4,
}

_PREFERENCES = {
    "run_on_batteries": 1,
    "run_if_user_active": 1,
    # A busy test machine would suspend everything.
    "suspend_cpu_usage": 0,
    "leave_apps_in_memory": 1,
    "disk_interval": 60,
    "ram_max_used_busy_pct": 95,
    "ram_max_used_idle_pct": 95,
    "disk_max_used_gb": 100,
    "disk_max_used_pct": 100,
    "disk_min_free_gb": 0,
    "cpu_usage_limit": 100,
    "max_ncpus_pct": 100,
}


@dataclass(frozen=True, slots=True)
class OtherUser:
    """The user that the client runs as."""

    uid: int
    gid: int


@cache
def other_user() -> OtherUser | None:
    """Return Debian's user for the client; None if we have no right to start programs as somebody else."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("boinc")
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return OtherUser(entry.pw_uid, entry.pw_gid)


_HIDE = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o mode=0,size=4k none "$0" && exec "$@"', str(REPOSITORY)]


@cache
def can_hide() -> bool:
    """Tell whether we may hide the checkout from a program; a container often may not."""
    if other_user() is None:
        return False
    return subprocess.run([*_HIDE, "true"], capture_output=True).returncode == 0


def _settings(name: str, values: dict[str, int]) -> str:
    lines = "".join(f"<{key}>{value}</{key}>\n" for key, value in values.items())
    return f"<{name}>\n{lines}</{name}>\n"


class Client:
    """A client with a data directory of its own, attached to `server`. `log` is where its event log goes.

    `cpus` jobs run at the same time, and find programs in `path`; `preferences` are those of the volunteer that are not
    ours. `close` removes everything.
    """

    def __init__(
        self,
        server: ProjectServer,
        clock: FastClock,
        log: Path,
        *,
        cpus: int = 1,
        path: str = "/usr/bin:/bin",
        preferences: Mapping[str, int] | None = None,
    ) -> None:
        self._server = server
        self._log = log
        self._user = other_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._home = Path(tempfile.mkdtemp(prefix="vmbridge-e2e-"))
        self.directory = self._home / "data"
        self.directory.mkdir()
        # Where the client can load it.
        library = shutil.copy(clock.library, self._home)
        self._environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
        }
        # The client's alone: the programs that lead to it have another path, and the true time.
        self._own = {**clock.environment(), "LD_PRELOAD": str(library), "PATH": path}
        self._write("gui_rpc_auth.cfg", f"{_PASSWORD}\n")
        flags = _settings("log_flags", dict.fromkeys(_LOG_FLAGS, 1))
        self._write(
            "cc_config.xml", f"<cc_config>\n{flags}{_settings('options', {**_SETTINGS, 'ncpus': cpus})}</cc_config>\n"
        )
        self._preferences = {**_PREFERENCES, **(preferences or {})}
        self._write(_OVERRIDE, _settings("global_preferences", self._preferences))
        account = f"<master_url>{server.url}</master_url>\n<authenticator>{AUTHENTICATOR}</authenticator>\n"
        self._write(f"account_{server.project_name}.xml", f"<account>\n{account}</account>\n")

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def install_anonymous(self, version: AppVersion) -> None:
        """Put an app version there as a volunteer who has built it does; before `start`."""
        folder = self.directory / "projects" / self._server.project_name
        folder.mkdir(parents=True)
        for file in version.files:
            (folder / file.physical).write_bytes(file.read())
            (folder / file.physical).chmod(0o755 if file.executable else 0o644)
        (folder / "app_info.xml").write_text(app_info(version))

    # Life

    def start(self) -> None:
        """Start the client, and return when it answers."""
        assert self._process is None
        boinc = shutil.which("boinc")
        assert boinc, "there is no boinc: run `make e2e`, which installs it"
        command = ["env", *(f"{key}={value}" for key, value in self._own.items())]
        command += [boinc, *_OPTIONS, "--dir", str(self.directory)]
        if self._user is not None:
            self._give_away(self._user)
            ids = [f"--reuid={self._user.uid}", f"--regid={self._user.gid}", "--clear-groups"]
            command = ["setpriv", *ids, *command]
        if can_hide():
            command = [*_HIDE, *command]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self._environment,
                # Its applications are in its process group, and it may kill that.
                start_new_session=True,
            )
        self.wait(self._answers, "the client answers")

    def _give_away(self, user: OtherUser) -> None:
        self._home.chmod(0o755)
        for folder, _, names in os.walk(self.directory):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, user.uid, user.gid, follow_symlinks=False)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the client has ended with {self._process.returncode}"
        try:
            with self.gui_rpc():
                return True
        except GuiRpcError:
            return False

    def quit(self) -> None:
        """Have the client stop its jobs and go, and return when it has."""
        with self.gui_rpc() as rpc:
            rpc.quit()
        assert self._process is not None
        self._process.wait(PATIENCE_S)
        self._process = None

    def kill(self) -> None:
        """Kill the client, and only it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """End the client if it runs, and whatever it has left; remove its directory."""
        if self._process is not None:
            try:
                self.quit()
            except (GuiRpcError, subprocess.TimeoutExpired):
                self.kill()
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        shutil.rmtree(self._home, ignore_errors=True)

    def prefer(self, **preferences: int) -> None:
        """Change the volunteer's preferences, of a client that runs."""
        self._preferences.update(preferences)
        self._write(_OVERRIDE, _settings("global_preferences", self._preferences))
        self.boinccmd("--read_global_prefs_override")

    # Looks

    def gui_rpc(self) -> GuiRpc:
        """Connect to the client."""
        return GuiRpc(self.directory / _SOCKET, _PASSWORD)

    def boinccmd(self, *words: str) -> str:
        """Run BOINC's own command and return what it prints."""
        command = ["boinccmd", "--passwd", _PASSWORD, "--unix_domain", *words]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def result(self, name: str) -> SeenResult | None:
        """Return a result as the client shows it; None if it has none of this name."""
        with self.gui_rpc() as rpc:
            return rpc.results().get(name)

    def messages(self) -> list[str]:
        """Return the client's event log since its start."""
        with self.gui_rpc() as rpc:
            return rpc.messages()

    def log(self) -> str:
        """Return the event log of all its starts."""
        return self._log.read_text(errors="replace")

    def update(self) -> None:
        """Have the client ask the server now."""
        with self.gui_rpc() as rpc:
            rpc.update(self._server.url)

    def order(self, verb: str, result: str) -> None:
        """Order `suspend`, `resume` or `abort` of a result."""
        with self.gui_rpc() as rpc:
            rpc.result_order(verb, self._server.url, result)

    def slot(self, number: int = 0) -> Path:
        """Return a slot's directory."""
        return self.directory / "slots" / str(number)

    def left_in_slots(self) -> list[str]:
        """Return all names that are in any slot."""
        slots = self.directory / "slots"
        return sorted(str(path.relative_to(slots)) for path in slots.glob("*/*"))

    def processes(self) -> list[psutil.Process]:
        """Return all processes that work in the data directory, or are named for it; but not the client."""
        found = []
        for process in psutil.process_iter():
            try:
                with process.oneshot():
                    words = [*process.cmdline(), process.cwd()]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if (self._process is None or process.pid != self._process.pid) and any(
                str(self.directory) in word for word in words
            ):
                found.append(process)
        return found

    def sockets(self) -> list[str]:
        """Return all sockets with a name in the data directory, but not the client's own."""
        lines = Path("/proc/net/unix").read_text().splitlines()
        names = {line.split(maxsplit=7)[7] for line in lines if str(self.directory) in line}
        return sorted(names - {str(self.directory / _SOCKET)})

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Wait until `condition` returns something true, and return that."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} seconds: {what}"
            time.sleep(0.05)
        return found

    def story(self) -> str:
        """Return the end of the client's log, and what the jobs in the slots have said, for a test that failed."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        pieces = ["\n".join(lines[-_STORY_LINES:])]
        for path in sorted((self.directory / "slots").glob("*/stderr.txt")):
            pieces.append(f"--- {path.relative_to(self.directory)}\n{path.read_text(errors='replace')}")
        return "\n".join(pieces)
