"""A data directory as the client makes it: one project, one slot, links or copies, `init_data.xml`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

PROJECT = "project.example.org_vm"
INIT_DATA = "init_data.xml"

Version = tuple[int, int, int]
OLD: Version = (7, 20, 5)
NEW: Version = (8, 2, 15)


class DataDirectory:
    """`projects/P` with files, `slots/0` with what stands for them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.project = path / "projects" / PROJECT
        self.slot = path / "slots" / "0"
        self.project.mkdir(parents=True)
        self.slot.mkdir(parents=True)

    def link(self, name: str, physical: str) -> None:
        """Put into the slot what stands for a file of the project, which need not exist: an output."""
        place = self.slot / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"<soft_link>../../projects/{PROJECT}/{physical}</soft_link>\n")

    def add(self, name: str, content: str | bytes | Path, *, physical: str | None = None, copy: bool = False) -> Path:
        """Put a file into the project, and a link or a `copy` into the slot; returns the project's file."""
        file = self.project / (physical or f"{Path(name).name}_1")
        if isinstance(content, Path):
            shutil.copy(content, file)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        if copy:
            shutil.copy(file, self.slot / name)
        else:
            self.link(name, file.name)
        return file

    def program(self, content: str | bytes | Path, physical: str) -> str:
        """Put a program into the project; returns what the client executes, relative to the slot."""
        file = self.project / physical
        if isinstance(content, Path):
            shutil.copy(content, file)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(0o755)
        return f"../../projects/{PROJECT}/{physical}"

    def output(self, name: str, physical: str) -> Path:
        """Promise an output; returns the file in the project that the application is to make."""
        self.link(name, physical)
        return self.project / physical

    def library_path(self) -> str:
        """What the client puts into LD_LIBRARY_PATH."""
        old = os.environ.get("LD_LIBRARY_PATH")
        return f"../../projects/{PROJECT}:.:../.." + (f":{old}" if old else "")

    def write_init_data(self, version: Version, **values: object) -> None:
        """Write `init_data.xml` anew; `values` replace those of the tags of these names."""
        file = self.slot / INIT_DATA
        file.unlink(missing_ok=True)
        mine = {"project_dir": self.project, "boinc_dir": self.path, **values}
        file.write_text(init_data(version, mine))


def init_data(version: Version, values: Mapping[str, object]) -> str:
    """Return `init_data.xml` with the tags of this client. Pure.

    Only names of people and of the host are escaped; everything else stands as it is, `&` and `<` too.
    """
    new = version >= NEW
    head: dict[str, object] = {
        "major_version": version[0],
        "minor_version": version[1],
        "release": version[2],
        "app_version": 100,
        "userid": 1,
        "teamid": 0,
        "hostid": 7,
        "app_name": "molecules & more",
        **({"plan_class": "vm"} if new else {}),
        "project_preferences": "\n<color>blue & green</color>\n<slot>77</slot>\n<ncpus>64</ncpus>\n<max a<b>1</max>\n",
        "user_name": "Ada &lt;Lovelace&gt; &amp; Co",
        "project_dir": "",
        "boinc_dir": "",
        "authenticator": "d0c5ec2e7a1b4f0f9d3e55aa77bb1122",
        "wu_name": "molecule_42",
        "result_name": "molecule_42_0",
        "shm_key": -1,
        "slot": 0,
        "client_pid": os.getpid(),
        "wu_cpu_time": 0.0,
        "starting_elapsed_time": 0.0,
        "using_sandbox": 0,
        "vm_extensions_disabled": 0,
        "user_total_credit": 1234.5,
        "user_expavg_credit": 12.25,
        "host_total_credit": 1000.0,
        "host_expavg_credit": 10.0,
        "resource_share_fraction": 1.0,
        "checkpoint_period": 60.0,
        "fraction_done_start": 0.0,
        "fraction_done_end": 1.0,
        "gpu_type": "",
        "gpu_device_num": -1,
        "gpu_opencl_dev_index": -1,
        "gpu_usage": 0.0,
        "ncpus": 1.0,
        "rsc_fpops_est": 1e12,
        "rsc_fpops_bound": 1e15,
        "rsc_memory_bound": 5e8,
        "rsc_disk_bound": 5e9,
        "computation_deadline": 1893456000.0,
        "vbox_window": 0,
        "no_priority_change": 0,
        "process_priority": -1,
        "process_priority_special": -1,
    }
    assert not (unknown := set(values) - set(head)), f"no such tag in {INIT_DATA}: {unknown}"
    lines = [_line(tag, value) for tag, value in (head | dict(values)).items()]
    proxy = "" if new else _PROXY
    preferences = _PREFERENCES.replace("NIU", _NIU if new else "")
    files = "<app_file>vmbridge_1</app_file>\n"
    return f"<app_init_data>\n{''.join(lines)}{_HOST}{proxy}{preferences}{files}</app_init_data>\n"


def _line(tag: str, value: object) -> str:
    text = f"{value:f}" if isinstance(value, float) else str(value)
    return f"<{tag}>{text}</{tag}>\n"


_HOST = """\
<host_info>
    <timezone>3600</timezone>
    <domain_name>host</domain_name>
    <ip_addr>127.0.0.1</ip_addr>
    <host_cpid>0123456789abcdef0123456789abcdef</host_cpid>
    <p_ncpus>2</p_ncpus>
    <p_vendor>GenuineIntel</p_vendor>
    <p_model>A &amp; B</p_model>
    <p_features>fpu sse2 vmx</p_features>
    <p_fpops>1000000000.000000</p_fpops>
    <p_iops>1000000000.000000</p_iops>
    <p_membw>1000000000.000000</p_membw>
    <p_calculated>1700000000.000000</p_calculated>
    <p_vm_extensions_disabled>0</p_vm_extensions_disabled>
    <m_nbytes>8000000000.000000</m_nbytes>
    <m_cache>1000000.000000</m_cache>
    <m_swap>0.000000</m_swap>
    <d_total>100000000000.000000</d_total>
    <d_free>50000000000.000000</d_free>
    <os_name>Linux Debian</os_name>
    <os_version>12 [6.1|libc 2.36]</os_version>
    <n_usable_coprocs>0</n_usable_coprocs>
    <coprocs>
    </coprocs>
</host_info>
"""

_PROXY = """\
<proxy_info>
    <socks_server_name></socks_server_name>
    <socks_server_port>80</socks_server_port>
    <http_server_name></http_server_name>
    <http_server_port>80</http_server_port>
    <socks5_user_name></socks5_user_name>
    <socks5_user_passwd></socks5_user_passwd>
    <socks5_remote_dns>0</socks5_remote_dns>
    <http_user_name></http_user_name>
    <http_user_passwd></http_user_passwd>
    <no_proxy></no_proxy>
    <no_autodetect>0</no_autodetect>
</proxy_info>
"""

_PREFERENCES = """\
<global_preferences>
   <source_project></source_project>
   <mod_time>0.000000</mod_time>
   <battery_charge_min_pct>90.000000</battery_charge_min_pct>
   <battery_max_temperature>40.000000</battery_max_temperature>
   <run_on_batteries>1</run_on_batteries>
   <run_if_user_active>1</run_if_user_active>
   <run_gpu_if_user_active>0</run_gpu_if_user_active>
   <suspend_if_no_recent_input>0.000000</suspend_if_no_recent_input>
   <suspend_cpu_usage>0.000000</suspend_cpu_usage>
   <start_hour>0.000000</start_hour>
   <end_hour>0.000000</end_hour>
   <net_start_hour>0.000000</net_start_hour>
   <net_end_hour>0.000000</net_end_hour>
   <leave_apps_in_memory>1</leave_apps_in_memory>
   <confirm_before_connecting>0</confirm_before_connecting>
   <hangup_if_dialed>0</hangup_if_dialed>
   <dont_verify_images>0</dont_verify_images>
   <work_buf_min_days>0.100000</work_buf_min_days>
   <work_buf_additional_days>0.500000</work_buf_additional_days>
   <max_ncpus_pct>100.000000</max_ncpus_pct>
NIU   <cpu_scheduling_period_minutes>60.000000</cpu_scheduling_period_minutes>
   <disk_interval>60.000000</disk_interval>
   <disk_max_used_gb>0.000000</disk_max_used_gb>
   <disk_max_used_pct>90.000000</disk_max_used_pct>
   <disk_min_free_gb>0.100000</disk_min_free_gb>
   <vm_max_used_pct>75.000000</vm_max_used_pct>
   <ram_max_used_busy_pct>50.000000</ram_max_used_busy_pct>
   <ram_max_used_idle_pct>90.000000</ram_max_used_idle_pct>
   <idle_time_to_run>3.000000</idle_time_to_run>
   <max_bytes_sec_up>0.000000</max_bytes_sec_up>
   <max_bytes_sec_down>0.000000</max_bytes_sec_down>
   <cpu_usage_limit>100.000000</cpu_usage_limit>
   <daily_xfer_limit_mb>0.000000</daily_xfer_limit_mb>
   <daily_xfer_period_days>0</daily_xfer_period_days>
   <override_file_present>0</override_file_present>
   <network_wifi_only>1</network_wifi_only>
</global_preferences>
"""

_NIU = """\
   <niu_max_ncpus_pct>100.000000</niu_max_ncpus_pct>
   <niu_cpu_usage_limit>100.000000</niu_cpu_usage_limit>
   <niu_suspend_cpu_usage>50.000000</niu_suspend_cpu_usage>
"""
