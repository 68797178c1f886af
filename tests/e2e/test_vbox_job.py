"""A job of BOINC's vboxwrapper under the real client: a disk that boots by itself, plain files in `shared`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..integration.conftest import ENVIRONMENT, VMBRIDGE
from ..plain_guest import build_disk
from .clock import FastClock
from .conftest import open_rig
from .machines import fraction_done, nothing_is_left, qemu
from .project import AppVersion, Job, ProjectFile, read_bundle

VBOX_JOB = """<vbox_job>
  <vm_disk_controller_type>ide</vm_disk_controller_type>
  <memory_size_mb>256</memory_size_mb>
  <fraction_done_filename>fraction_done</fraction_done_filename>
  <heartbeat_filename>heartbeat</heartbeat_filename>
  <completion_trigger_file>shutdown</completion_trigger_file>
  <enable_shared_directory/>
  <copy_to_shared>job.sh</copy_to_shared>
  <copy_to_shared>init_data.xml</copy_to_shared>
  <trickle_trigger_file>news</trickle_trigger_file>
</vbox_job>
"""
# At the first start it waits to be quit; at the second it goes on from the state that it has left in `shared`.
SCRIPT = """touch heartbeat
if [ ! -e state ]; then
    echo 0.5 > fraction_done
    printf '<found>7</found>' > news
    echo half > state
    sleep 100000
fi
tr a-z A-Z < input > result
grep -c '<wu_name>vbox</wu_name>' init_data.xml >> result
grep -c '<authenticator></authenticator>' init_data.xml >> result
cp result linked.txt
echo 0 > shutdown
sleep 100000
"""


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppVersion]:
    """The version of an application as `vmbridge package` makes it."""
    folder = tmp_path_factory.mktemp("vbox")
    [disk] = build_disk(folder, ("vdi",))
    (folder / "vbox_job.xml").write_text(VBOX_JOB)
    words = ["package", "out", "--job", "vbox_job.xml", "--image", disk.name]
    done = subprocess.run([*VMBRIDGE, *words], env=ENVIRONMENT, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield read_bundle(folder / "out")


def test_a_job_is_quit_goes_on_and_its_results_are_uploaded(
    clock: FastClock, tmp_path: Path, version: AppVersion
) -> None:
    inputs = (
        ProjectFile("job_1.sh", "job.sh", SCRIPT.encode()),
        ProjectFile("input_1", "shared/input", b"ada\n", copy=True),
    )
    job = Job("vbox", inputs=inputs, outputs=("shared/result", "linked.txt"))
    with open_rig(clock, tmp_path, version, jobs=(job,)) as rig:
        client = rig.client
        client.wait(lambda: fraction_done(client, job) == 0.5, "the client hears how far it is")
        client.wait(lambda: rig.server.trickles_up(job.result), "the trickle has come up")
        client.quit()
        assert qemu(client) == []
        client.start()
        report = rig.reported(job)
        assert report.exit_status == 0, report.stderr
        assert "cannot be saved while it runs" in report.stderr and report.final_cpu_time > 0
        for name in job.outputs:
            assert rig.output(job, name) == b"ADA\n1\n1\n", name
        # A client that is quit before it has read the server's answer sends the same one again, with the same time.
        assert len({trickle.text for trickle in rig.server.trickles_up(job.result)}) == 1
        nothing_is_left(client)
