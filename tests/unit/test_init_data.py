"""What the client says about the job: tolerant, by tag, and never taken half."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.client.init_data import FILE, InitData, Unreadable, parse_init_data, read_init_data

CLIENT_7_20 = """\
<app_init_data>
<major_version>7</major_version>
<minor_version>20</minor_version>
<release>5</release>
<app_version>100</app_version>
<hostid>0</hostid>
<app_name>worker</app_name>
<project_preferences>
<slot>99</slot>
<colour>a < b & c</colour>
</project_preferences>
<user_name>A &amp; B</user_name>
<project_dir>/var/lib/boinc-client/projects/127.0.0.1_8080_test & more</project_dir>
<boinc_dir>/var/lib/boinc-client</boinc_dir>
<authenticator>deadbeef</authenticator>
<wu_name>energy_1</wu_name>
<result_name>energy_1_0</result_name>
<shm_key>-1</shm_key>
<slot>3</slot>
<client_pid>4711</client_pid>
<wu_cpu_time>12.500000</wu_cpu_time>
<checkpoint_period>60.000000</checkpoint_period>
<fraction_done_start>0.000000</fraction_done_start>
<fraction_done_end>1.000000</fraction_done_end>
<ncpus>1.500000</ncpus>
<gpu_device_num>1</gpu_device_num>
<no_priority_change>1</no_priority_change>
<process_priority>2</process_priority>
<rsc_fpops_est>250000000000000.000000</rsc_fpops_est>
<host_info>
    <p_ncpus>8</p_ncpus>
    <p_fpops>4100000000.000000</p_fpops>
    <p_iops>9000000000.000000</p_iops>
    <client_pid>1</client_pid>
</host_info>
<proxy_info>
    <no_proxy></no_proxy>
</proxy_info>
<global_preferences>
   <disk_interval>60.000000</disk_interval>
   <slot>77</slot>
</global_preferences>
</app_init_data>
"""


def test_the_values_of_the_job_and_no_others() -> None:
    assert parse_init_data(CLIENT_7_20) == InitData(
        major_version=7,
        minor_version=20,
        release=5,
        app_version=100,
        app_name="worker",
        wu_name="energy_1",
        result_name="energy_1_0",
        project_dir="/var/lib/boinc-client/projects/127.0.0.1_8080_test & more",
        slot=3,
        client_pid=4711,
        shm_key=-1,
        wu_cpu_time=12.5,
        checkpoint_period=60.0,
        ncpus=1.5,
        process_priority=2,
        no_priority_change=True,
        gpu_device_num=1,  # used to be left out: a program of the host was given the GPU of the command line
        rsc_fpops_est=2.5e14,
        p_fpops=4.1e9,
        p_iops=9e9,
    ), "project preferences may hold any tag"


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("<client_pid>many</client_pid>", "client_pid", 0),
        ("<client_pid>-5</client_pid>", "client_pid", 0),
        ("<wu_cpu_time>nan</wu_cpu_time>", "wu_cpu_time", 0.0),
        ("<wu_cpu_time>-1.0</wu_cpu_time>", "wu_cpu_time", 0.0),
        ("<ncpus>inf</ncpus>", "ncpus", 0.0),
        ("<shm_key>16794541</shm_key>", "shm_key", 16794541),
        ("<comm_obj_name>boinc_7</comm_obj_name>", "comm_obj_name", "boinc_7"),
        ("  <app_name>indented</app_name>  ", "app_name", "indented"),
        ("<app_name>a</app_name>\n<app_name>b</app_name>", "app_name", "a"),
        ("<proxy_info><slot>9</slot></proxy_info>\n<slot>2</slot>", "slot", 2),
        ("<unknown_tag/>\n<slot>2</slot>", "slot", 2),
        ("<p_fpops>1</p_fpops>", "p_fpops", 0.0),
        ("<host_info>\n<p_fpops>1</p_fpops>\n<x>\n</x>\n<p_iops>2</p_iops>\n</host_info>", "p_iops", 2.0),
        ("<project_preferences>\n<host_info>\n<p_fpops>1</p_fpops>\n</host_info>\n", "p_fpops", 0.0),
        ("<proxy_info>\n<slot>9</slot>\n</host_info>\n<slot>9</slot>\n</proxy_info>\n<slot>2</slot>", "slot", 2),
        ("no tag at all\n<\n<>\n<slot>2</slot>", "slot", 2),
    ],
)
def test_what_is_no_number_keeps_its_default(line: str, field: str, value: object) -> None:
    assert getattr(parse_init_data(f"<app_init_data>\n{line}\n</app_init_data>\n"), field) == value


def test_no_file_means_no_client(tmp_path: Path) -> None:
    assert read_init_data(tmp_path) is None


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the reader sleeps, the client goes on with its work."""
    file = tmp_path / FILE
    file.write_text(CLIENT_7_20[:200])
    work: list[Callable[[], object]] = [lambda: None, file.unlink, lambda: file.write_text(CLIENT_7_20)]
    client = iter(work)
    monkeypatch.setattr(time, "sleep", lambda seconds: next(client)())
    found = read_init_data(tmp_path)
    assert found is not None and found.result_name == "energy_1_0"


def test_a_file_that_stays_incomplete_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(CLIENT_7_20[:200])
    with pytest.raises(Unreadable, match="has no </app_init_data>"):
        read_init_data(tmp_path)
