"""What of the client's words the guest may know."""

from __future__ import annotations

from bridge.client.init_data import parse_init_data
from bridge.for_guest import for_guest
from protocol.codec import encode

SAID = """\
<app_init_data>
<major_version>7</major_version>
<minor_version>20</minor_version>
<release>5</release>
<app_version>100</app_version>
<userid>4242</userid>
<teamid>4243</teamid>
<hostid>4244</hostid>
<app_name>worker</app_name>
<project_preferences>
<secret>preference</secret>
</project_preferences>
<user_name>Jane Secret</user_name>
<team_name>Team Secret</team_name>
<project_dir>/home/secret/boinc/projects/p</project_dir>
<boinc_dir>/home/secret/boinc</boinc_dir>
<authenticator>secret-deadbeef</authenticator>
<wu_name>energy_1</wu_name>
<result_name>energy_1_0</result_name>
<slot>4245</slot>
<client_pid>4246</client_pid>
<wu_cpu_time>12.500000</wu_cpu_time>
<user_total_credit>4247.000000</user_total_credit>
<ncpus>1.500000</ncpus>
<rsc_fpops_est>250000000000000.000000</rsc_fpops_est>
<computation_deadline>1795191267.500000</computation_deadline>
<resource_share_fraction>0.250000</resource_share_fraction>
<host_info>
    <domain_name>secret.example.org</domain_name>
    <ip_addr>10.1.2.3</ip_addr>
    <host_cpid>secretcpid</host_cpid>
    <p_fpops>4100000000.000000</p_fpops>
</host_info>
</app_init_data>
"""


def test_the_work_and_nobody_s_name() -> None:
    """The program in the machine gets no secret, no name of a person, no address and no path of the host's."""
    told = encode(for_guest(parse_init_data(SAID), cpus=2)).decode()
    assert set(told.splitlines()) >= {
        "app_name worker",
        "wu_name energy_1",
        "result_name energy_1_0",
        "app_version 100",
        "major_version 7",
        "ncpus 2.0",
        "rsc_fpops_est 250000000000000.0",
        "wu_cpu_time 12.5",
        "computation_deadline 1795191267.5",
        "resource_share_fraction 0.25",
        "fraction_done_end 1.0",
        "p_fpops 4100000000.0",
    }
    for secret in ("secret", "Secret", "424", "10.1.2.3", "preference", "/"):
        assert secret not in told


def test_what_cannot_be_said_is_left_out() -> None:
    """An estimate that no number file can hold, or a name that is no text, is no reason to run no job."""
    strange = (
        SAID.replace("250000000000000.000000", "1e40")
        .replace("energy_1<", "a\udce9b<")
        .replace("7</major", "1e300</major")
    )
    told = for_guest(parse_init_data(strange), cpus=1)
    assert (told.rsc_fpops_est, told.wu_name, told.major_version) == (None, None, None)
    assert told.result_name == "energy_1_0" and told.ncpus == 1.0
    encode(told)


def test_a_client_that_says_nothing() -> None:
    assert encode(for_guest(parse_init_data(""), cpus=1))
