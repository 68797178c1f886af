"""BOINC's own library and ours, under the same program: every public function, and what a client sees of it.

The real one is Debian's; its program is started by the stand-in for the client. With ours the very same file runs
under the bridge and the agent. With ``BOINC_DEV=FOLDER`` (default ``/``), below which Debian's libboinc-app-dev,
libboinc-app7 and libboinc7 lie.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from guest_side.build import build_library

from ..patience import AT_MOST_S, until
from ..standin import StandIn
from ..standin.memory import GRAPHICS_REPLY, TRICKLE_DOWN, TRICKLE_UP
from ..standin.task import number
from ..unit.test_library_symbols import REAL_HEADERS, REAL_LIBRARY, needs_cxx, needs_real
from .slots import Slot

pytestmark = [needs_real, needs_cxx]

CODE = Path(__file__).with_name("side_by_side.cpp")

OPTIONS = (
    *("normal_thread_priority", "main_program", "check_heartbeat", "handle_process_control"),
    *("send_status_msgs", "direct_process_action", "multi_thread", "multi_process"),
)
WITHOUT_CLIENT = ("nobody", "twice", "parallel", "general", "fork", "crash", *(f"option_{name}" for name in OPTIONS))
WITH_CLIENT = ("life", "fails", "message", "complaint", "temporary", "quit", "quit_inside", "quit_asked", "abort")
SCENARIOS = (*WITHOUT_CLIENT, *WITH_CLIENT)


@dataclasses.dataclass(frozen=True)
class Meant:
    """A difference that is meant: what the real library gives, what ours gives, and why."""

    name: str
    real: str
    ours: str
    """Patterns (re) for the whole."""
    why: str

    def fits(self, *said: str) -> bool:
        return all(map(re.fullmatch, (self.name, self.real, self.ours), said))


DIFFERENT = (
    Meant(r"before:boinc_is_standalone\(\)", "0", "1", "it is known before boinc_init"),
    Meant(r"before:boinc_get_fraction_done\(\)", "0", "-1", "nothing was said yet, as after boinc_init"),
    Meant(r"(alone|twice):boinc_get_fraction_done\(\)", "-1", "0.5", "boinc_init forgets nothing that was said"),
    Meant(r".*:prefix_of\(64\)", r"9:9:9 \(9\):", r"9-9-9 9:9:9 \(9\):", "the form of later versions, with the date"),
    Meant(r".*:prefix_of\(5\)", "9:9", "9", "as above"),
    Meant(r".*:resolved\(\"absent\",_4\)", "0 abs", "-118 ", "a name that is cut off is another file"),
    Meant(r".*:resolved\(\"absent\",_1\)", "0 ", "-118 ", "as above"),
    Meant(
        r".*:boinc_network_poll\(\)_when_it_is_needed",
        "1",
        "0",
        "the job says whether there is one, and a cable is cut",
    ),
    Meant(
        r".*:boinc_parse_graphics_status.*", "0", "-108", "nobody looks at a machine's screen: no file for each call"
    ),
    Meant(r"alone:data.fraction_done_end", "0", "1", "the whole of the work"),
    Meant(r"(alone|client):(ncpus|host_info.*)", "none", "some", "the machine is known without a client"),
    Meant(r"alone:(project|boinc)_dir", "-", "there", "where the program's files are"),
    Meant(r"alone:trickle\((\"\"|std|\"a<b|\"long|\"control|\"much).*", "0", "-178", "what cannot be told as it is"),
    Meant(r'alone:upload\("absent.txt"\)', "0", "-108", "there is nothing to upload"),
    Meant(r'alone:upload\("../early.txt"\)', "-108", "-178", "cannot be the name of an output"),
    Meant(r'alone:upload\(""\)', "0", "-178", "as above"),
    Meant(
        r"client:data.(user_name|authenticator|userid|hostid|user_total_credit)", ".*", "[-0]", "who the volunteer is"
    ),
    Meant(r"client:(client_pid|project_preferences)", "some", "none", "the host's affair, and the volunteer's"),
    Meant(r"client:data.shmem_seg_name", "-1", "0", "there is no such memory in a machine"),
    Meant(r"life:reason", "", "finished", "the client logs it; other endings have theirs"),
    Meant(r"(fails|complaint):fractions?( done)?", "(0.5 )?1", "0.5", "what failed is not done"),
    Meant(r"status", ".*reread=1.*", ".*reread=0.*", "nothing that the program may know of the job changes"),
    Meant(r"life:graphics", "<web_graphics_url>.*", "", "nobody can look at a machine's screen or web page"),
    Meant(r"message:notice", "True", "False", "a program in a machine does not address the volunteer"),
    Meant(r"temporary:output", "'result.*", "None", "outputs are brought at the end of the work"),
    Meant(r"saw", "quit", "nothing", "a machine that is not saved ends whole, with all that it has on its disk"),
    Meant(r".*:file boinc_finish_called", "there", "nothing", "the agent's affair; without a client nobody's"),
    Meant(r".*:file boinc_lockfile", "there", "nothing", "each machine has a disk of its own"),
    Meant(r".*:file stderr.txt", "there", "nothing", "standard error stays the agent's, who brings it to the host"),
    Meant(r".*:file graphics_status.xml", "there", "nothing", "nobody looks at a machine's screen"),
    Meant(r".*:file boinc_ufr_early.txt", "there", "nothing", "the bridge asks, where the client looks for it"),
    Meant(r".*:file boinc_ufr_(absent.txt)?", "there", "nothing", "there is nothing to upload"),
    Meant(r"fork:after_finish_file_of_a_child", "there", "none", "the work is not over when a child is"),
)
"""Of one difference the first that fits counts. Every row must be met."""


@dataclasses.dataclass(frozen=True)
class Libraries:
    program: Path
    ours: Path


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    folder = tmp_path_factory.mktemp("libraries")
    build_library(folder / "ours", headers=[REAL_HEADERS])
    real, program = REAL_LIBRARY.parent, folder / "program"
    includes = [f"-I{REAL_HEADERS}", f"-I{REAL_HEADERS / 'api'}"]
    link = [f"-L{real}", "-lboinc_api", "-lboinc", "-lpthread", f"-Wl,--enable-new-dtags,-rpath,{real}"]
    subprocess.run(["c++", "-Wall", "-Wextra", "-Werror", CODE, *includes, *link, "-o", program], check=True)
    return Libraries(program, folder / "ours")


Said = dict[str, str]


def parse(folder: Path) -> Said:
    """Return the lines that the program wrote, by their names; a second one of a name is an error of this test."""
    found: Said = {}
    for line in (folder / "said").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name != "step":
            assert name not in found, line
            found[name] = value
    return found


def without_client(libraries: Libraries, scenario: str, folder: Path, ours: bool) -> Said:
    folder.mkdir(parents=True)
    (folder / "link").write_text("<soft_link>plain</soft_link>\n")
    environment = {"LD_LIBRARY_PATH": str(libraries.ours)} if ours else {}
    with (folder / "err").open("w") as err, (folder / "out").open("w") as out:
        done = subprocess.run(
            [libraries.program, scenario, str(folder)],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=err,
            timeout=AT_MOST_S,
        )
    made = set(os.listdir(folder)) - {"said", "plain", "link", "err", "out"}
    return parse(folder) | {f"{scenario}:exit": str(done.returncode)} | {f"{scenario}:file {x}": "there" for x in made}


# ------------------------------------------------------------------ the client's side


class Client:
    """What the client does and sees while the program runs."""

    def __init__(self, client: StandIn, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.seen: Said = {}

    def await_step(self, name: str) -> None:
        self.client.until(lambda: f"step {name}\n" in self.text(), f"the step {name}; it said:\n{self.text()}")

    def text(self) -> str:
        try:
            return (self.folder / "said").read_text()
        except FileNotFoundError:
            return ""

    def step(self, name: str, condition: Callable[[], object] = lambda: True) -> None:
        """Wait until the program is there and the client sees something; let it go on."""
        self.await_step(name)
        self.client.until(condition, f"what {name} stands for")
        (self.folder / name).touch()

    def message(self) -> list[str]:
        return [one.text for one in list(self.client.received) if one.channel == TRICKLE_UP]

    def trickle(self, which: int) -> None:
        """Take a trickle as the client does."""
        file = self.client.slot / "trickle_up.xml"
        told = len([text for text in self.message() if "<have_new_trickle_up/>" in text])
        self.client.until(lambda: file.exists(), "the trickle")
        self.client.until(
            lambda: told or any("<have_new_trickle_up/>" in text for text in self.message()), "its notice"
        )
        self.seen[f"trickle {which}"] = repr(file.read_text())
        file.unlink()

    def life(self) -> None:
        client = self.client
        self.step("fraction_seen", lambda: client.task.fraction_done == 0.25)
        self.step("checkpoint_seen", lambda: client.task.checkpoints == 1)
        for which in (1, 2):
            self.await_step(f"trickle_{which}_taken")
            self.trickle(which)
            self.step(f"trickle_{which}_taken")
        self.await_step("upload_answered")
        request = self.client.slot / "boinc_ufr_early.txt"
        self.client.until(request.exists, "the request for an upload")
        self.client.until(lambda: any("<have_new_upload_file/>" in text for text in self.message()), "its notice")
        self.seen["uploaded"] = repr(self.client.read("early.txt"))
        request.unlink()
        (self.client.slot / "boinc_ufs_early.txt").write_text("<status>0</status>\n")
        self.tell("<upload_file_status/>\n")
        self.step("upload_answered")
        self.await_step("trickle_down_sent")
        (self.client.slot / "trickle_down_1700000000").write_text("<go/>\n on")
        self.client.tell_trickle_down()
        self.step("trickle_down_sent")
        self.client.order("reread_app_info")
        self.step("reread_sent")
        self.suspend()
        self.step("second_fraction_seen", lambda: client.task.fraction_done == 0.5)

    def tell(self, text: str) -> None:
        assert self.client._memory is not None
        self.client._memory.send(TRICKLE_DOWN, text)

    def suspend(self) -> None:
        """It computes, stands still, and goes on."""
        self.await_step("resumed")
        count = self.folder / "count"

        def moves() -> bool:
            before = count.stat().st_size
            time.sleep(0.3)
            return count.stat().st_size > before

        until(moves)
        self.client.order("suspend")
        until(lambda: not moves())
        self.seen["stands still"] = str(not moves())
        self.client.order("resume")
        until(moves)
        (self.folder / "resumed").touch()

    def asked(self, order: str) -> None:
        self.step("fraction_seen", lambda: self.client.task.fraction_done == 0.5)
        self.await_step("asked")
        self.client.order(order)

    def play(self, scenario: str) -> None:
        if scenario == "life":
            self.life()
        elif scenario.startswith("quit") or scenario == "abort":
            self.asked(scenario.partition("_")[0])
        else:
            self.step("fraction_seen", lambda: self.client.task.fraction_done == 0.5)
        if scenario == "temporary":
            self.step("checkpoint_seen", lambda: self.client.task.checkpoints == 1)


def fractions(client: StandIn) -> list[str]:
    """What the client has seen of the fraction done, each value once."""
    values = (number(one.text, "fraction_done") for one in client.statuses())
    return [f"{value:g}" for value, _ in itertools.groupby(value for value in values if value)]


ELEMENTS = "<copy_file_to_VM>in.txt</copy_file_to_VM><copy_file_from_VM>out.txt</copy_file_from_VM>"
MORE_ELEMENTS = {
    "life": "<copy_file_from_VM>early.txt</copy_file_from_VM><checkpoint_filename>state</checkpoint_filename>",
    "temporary": "<checkpoint_filename>state</checkpoint_filename>",
}


def with_client(libraries: Libraries, scenario: str, folder: Path, ours: bool) -> Said:
    folder.mkdir(parents=True)
    known: dict[str, Any] = {"checkpoint_period": 1.0, "wu_cpu_time": 50.0, "starting_elapsed_time": 70.0}
    data = folder / "data"
    words = (scenario, str(folder))
    script = f"LD_LIBRARY_PATH={libraries.ours} exec {libraries.program} {' '.join(words)}"
    elements = ELEMENTS + MORE_ELEMENTS.get(scenario, "")
    client: StandIn
    client = Slot(data, script, elements, **known) if ours else StandIn(data, killed_after_s=AT_MOST_S, **known)
    with client:
        client.directory.add("in.txt", "an input\n")
        played = Client(client, folder)
        if isinstance(client, Slot):
            client.run()
        else:
            client.start(client.directory.program(libraries.program, "program_1"), *words)
        played.play(scenario)
        concluded = client.wait()
        said = parse(folder) | played.seen
        said |= {
            f"{scenario}:end": concluded.end.name,
            f"{scenario}:code": str(concluded.code),
            f"{scenario}:delay": f"{round(concluded.delay_s, -2):g}",  # what is left when the client is told
            f"{scenario}:reason": concluded.reason,
            f"{scenario}:notice": str(concluded.notice),
            f"{scenario}:fraction done": f"{client.task.fraction_done:g}",
            f"{scenario}:checkpoints": str(client.task.checkpoints),
            f"{scenario}:output": repr(client.read("out.txt")),
            f"{scenario}:CPU time grows": str(50 < client.task.current_cpu_time < 600),
            f"{scenario}:operations": str(client.task.fpops_cumulative),
            f"{scenario}:wants the network": str(client.task.want_network),
            f"{scenario}:fractions": " ".join(fractions(client)),
            f"{scenario}:graphics": " ".join(one.text for one in client.received if one.channel == GRAPHICS_REPLY),
        }
        return said


# ------------------------------------------------------------------ the comparison


Runs = dict[tuple[str, bool], "Future[Said]"]


@pytest.fixture(scope="module")
def runs(libraries: Libraries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All at once: nearly all of the time nobody does anything."""
    folder = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor(12) as pool:
        yield {
            (scenario, ours): pool.submit(how, libraries, scenario, folder / f"{scenario}_{ours}", ours)
            for how, scenarios in ((with_client, WITH_CLIENT), (without_client, WITHOUT_CLIENT))
            for scenario in scenarios
            for ours in (False, True)
        }


def differences(runs: Runs, scenario: str) -> dict[str, tuple[str, str]]:
    """What the two gave where it was not the same, by name."""
    real, ours = runs[scenario, False].result(), runs[scenario, True].result()
    pairs = {name: (real.get(name, "nothing"), ours.get(name, "nothing")) for name in {**real, **ours}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def meant(name: str, pair: tuple[str, str]) -> Meant | None:
    """Return the row of the table for a difference."""
    return next((row for row in DIFFERENT if row.fits(name, *pair)), None)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_side_by_side(runs: Runs, scenario: str) -> None:
    unmeant = {name: pair for name, pair in differences(runs, scenario).items() if not meant(name, pair)}
    assert not unmeant, "".join(f"\n{name}: theirs {real!r}, ours {ours!r}" for name, (real, ours) in unmeant.items())


def test_no_difference_is_meant_that_is_none(runs: Runs) -> None:
    seen = [meant(name, pair) for scenario in SCENARIOS for name, pair in differences(runs, scenario).items()]
    assert [row for row in DIFFERENT if row not in seen] == []
