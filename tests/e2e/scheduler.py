"""The scheduler's half of the conversation: the client's request read, a reply composed. Pure.

The client is told no more than it needs; what that is was found by trying.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import unescape
from xml.sax.saxutils import escape

from .project import APP, PLATFORM, AppVersion, Job, ProjectFile
from .signing import SigningKey
from .tags import number_of, text_of

_FLOPS = 1e9
_BOUND_OPERATIONS = 1e15
_DEADLINE_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Report:
    """What the client tells about a result that is over. `state` is the client's (5: all is uploaded)."""

    name: str
    state: int
    exit_status: int
    final_cpu_time: float
    final_elapsed_time: float
    fpops_cumulative: float
    intops_cumulative: float
    stderr: str
    xml: str


@dataclass(frozen=True, slots=True)
class TrickleUp:
    """A message from a running job."""

    result: str
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """A scheduler request, as far as it interests us."""

    authenticator: str
    knows_key: bool
    anonymous: bool
    now: float
    reports: tuple[Report, ...]
    trickles: tuple[TrickleUp, ...]


def read_request(text: str, now: float) -> Request:
    """Read a request that came at `now`, in seconds since 1970, by the client's clock."""
    # <other_results> names results as <other_result>: these are the ones reported.
    reports = tuple(_report(xml) for xml in re.findall(r"<result>(.*?)</result>", text, re.DOTALL))
    trickles = tuple(
        TrickleUp(text_of(xml, "result_name") or "", xml.strip())
        for xml in re.findall(r"<msg_from_host>(.*?)</msg_from_host>", text, re.DOTALL)
    )
    return Request(
        authenticator=text_of(text, "authenticator") or "",
        knows_key=bool(text_of(text, "code_sign_key")),
        anonymous=text_of(text, "platform_name") == "anonymous",
        now=now,
        reports=reports,
        trickles=trickles,
    )


def _report(xml: str) -> Report:
    found = re.search(r"<stderr_txt>(.*?)</stderr_txt>", xml, re.DOTALL)
    return Report(
        name=text_of(xml, "name") or "",
        state=int(number_of(xml, "state")),
        exit_status=int(number_of(xml, "exit_status")),
        final_cpu_time=number_of(xml, "final_cpu_time"),
        final_elapsed_time=number_of(xml, "final_elapsed_time"),
        fpops_cumulative=number_of(xml, "fpops_cumulative"),
        intops_cumulative=number_of(xml, "intops_cumulative"),
        stderr="" if found is None else unescape(found.group(1)).strip(),
        xml=xml,
    )


@dataclass(frozen=True, slots=True)
class Replier:
    """Composes the replies of the project at `url`, a URL with a slash at its end."""

    url: str
    key: SigningKey

    def reply(
        self,
        request: Request,
        jobs: Sequence[Job],
        versions: Iterable[AppVersion],
        trickles_down: Iterable[tuple[str, str]] = (),
    ) -> str:
        """Answer `request`: all that it reports is acknowledged, `jobs` are handed out with their `versions`.

        `trickles_down` are pairs of a result's name and a text.
        """
        lines = [
            "<scheduler_reply>",
            "<scheduler_version>720</scheduler_version>",
            f"<master_url>{self.url}</master_url>",
            "<request_delay>0</request_delay>",
            "<project_name>end to end</project_name>",
            "<user_name>tester</user_name>",
            "<hostid>1</hostid>",
        ]
        if not request.knows_key:
            # Sent once: a second one is refused without a signature by the first.
            lines += ["<code_sign_key>", self.key.public_text().strip(), "</code_sign_key>"]
        lines += [f"<result_ack>\n<name>{report.name}</name>\n</result_ack>" for report in request.reports]
        if request.trickles:
            lines.append("<message_ack/>")
        for result, text in trickles_down:
            # The client reads this element line by line.
            lines.append(f"<trickle_down>\n<result_name>{result}</result_name>\n<time>{request.now:.0f}</time>")
            lines.append(f"{text}\n</trickle_down>")
        if jobs:
            lines.append(f"<app>\n<name>{APP}</name>\n<user_friendly_name>{APP}</user_friendly_name>\n</app>")
            if not request.anonymous:
                for version in versions:
                    lines += [self._file(file, signed=True) for file in version.files]
                    lines.append(app_version(version, PLATFORM))
            for job in jobs:
                lines += self._job(job, request)
        lines.append("</scheduler_reply>")
        return "\n".join(lines) + "\n"

    def _file(self, file: ProjectFile, signed: bool) -> str:
        md5 = file.md5()
        lines = [
            "<file_info>",
            f"<name>{file.physical}</name>",
            f"<url>{self.url}download/{file.physical}</url>",
            f"<md5_cksum>{md5}</md5_cksum>",
            f"<nbytes>{len(file.read())}</nbytes>",
        ]
        if file.executable:
            lines.append("<executable/>")
        if file.sticky:
            lines.append("<sticky/>")
        if file.gzip:
            lines.append(f"<gzipped_url>{self.url}download/{file.physical}.gz</gzipped_url>")
            lines.append(f"<gzipped_nbytes>{len(file.compressed())}</gzipped_nbytes>")
        if signed:
            lines += ["<file_signature>", self.key.signature_text(md5).strip(), "</file_signature>"]
        return "\n".join([*lines, "</file_info>"])

    def _job(self, job: Job, request: Request) -> list[str]:
        lines = [self._file(file, signed=False) for file in job.inputs]
        lines += [
            "<workunit>",
            f"<name>{job.name}</name>",
            f"<app_name>{APP}</app_name>",
            f"<command_line>{escape(job.command_line)}</command_line>",
            f"<rsc_fpops_est>{_FLOPS * 60:f}</rsc_fpops_est>",
            f"<rsc_fpops_bound>{_BOUND_OPERATIONS:f}</rsc_fpops_bound>",
            f"<rsc_memory_bound>{job.memory_bound:f}</rsc_memory_bound>",
            f"<rsc_disk_bound>{job.disk_bound:f}</rsc_disk_bound>",
            *(_reference(file.physical, file.logical, copy=file.copy) for file in job.inputs),
            "</workunit>",
        ]
        for logical in job.outputs:
            lines += [
                "<file_info>",
                f"<name>{job.output_file(logical)}</name>",
                "<generated_locally/>",
                "<upload_when_present/>",
                "<max_nbytes>1e8</max_nbytes>",
                f"<url>{self.url}file_upload_handler</url>",
                "</file_info>",
            ]
        lines += ["<result>", f"<name>{job.result}</name>", f"<wu_name>{job.name}</wu_name>"]
        if not request.anonymous:
            lines += [f"<platform>{PLATFORM}</platform>", f"<version_num>{job.version}</version_num>"]
        lines += [
            f"<report_deadline>{request.now + _DEADLINE_S:f}</report_deadline>",
            # A name in a folder of the slot is a copy's: vboxwrapper's guests write there.
            *(_reference(job.output_file(logical), logical, copy="/" in logical) for logical in job.outputs),
            "</result>",
        ]
        return lines


def _reference(physical: str, logical: str, *, main: bool = False, copy: bool = False) -> str:
    lines = ["<file_ref>", f"<file_name>{physical}</file_name>"]
    if main:
        lines.append("<main_program/>")
    if logical != physical:
        lines.append(f"<open_name>{logical}</open_name>")
    if copy:
        lines.append("<copy_file/>")
    return "\n".join([*lines, "</file_ref>"])


def app_version(version: AppVersion, platform: str | None) -> str:
    """Return the element `app_version`, for a reply or, without a platform, for an `app_info.xml`."""
    lines = ["<app_version>", f"<app_name>{APP}</app_name>", f"<version_num>{version.number}</version_num>"]
    if platform is not None:
        lines.append(f"<platform>{platform}</platform>")
    if version.api_version is not None:
        lines.append(f"<api_version>{version.api_version}</api_version>")
    if version.is_wrapper:
        lines.append("<is_wrapper/>")
    lines += ["<avg_ncpus>1</avg_ncpus>", f"<flops>{_FLOPS:f}</flops>"]
    lines += [_reference(file.physical, file.logical, main=file.main_program, copy=file.copy) for file in version.files]
    return "\n".join([*lines, "</app_version>"])


def app_info(version: AppVersion) -> str:
    """Return the `app_info.xml` by which a volunteer runs `version` without the project's own, unsigned."""
    lines = ["<app_info>", f"<app>\n<name>{APP}</name>\n</app>"]
    for file in version.files:
        executable = "<executable/>\n" if file.executable else ""
        lines.append(f"<file_info>\n<name>{file.physical}</name>\n{executable}</file_info>")
    return "\n".join([*lines, app_version(version, None), "</app_info>"]) + "\n"
