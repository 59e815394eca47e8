# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dnf gate does about a Go that a transaction brings: lay it out, have it examined, decide."""

from __future__ import annotations

import os

from go_health_hook.deadline import Clock, Deadline
from go_health_hook.errors import EXIT_BLOCK
from go_health_hook.gates._dnf_judge import MOST_SECONDS, Answer, decide, excuse_libraries, in_force, sound_before
from go_health_hook.subject import Subject
from go_health_hook.text import clean
from go_health_hook.verdict import FAIL, Examination, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from go_health_hook.config import Config
    from go_health_hook.gates._dnf_judge import Task
    from go_health_hook.go.incoming import Incoming

# To read the headers of all other packages (a release upgrade has thousands).
SEARCH_SECONDS = 20.0


def worst(answers: Sequence[Answer]) -> Answer:
    """Return the first answer that is a veto, else the first that was not decided or judged, else the first.

    It gets the notes of all.
    """
    ranks = (
        [a for a in answers if a.message],
        [a for a in answers if a.status],
        [a for a in answers if a.entry and a.entry["not_judged"]],
        answers,
    )
    chosen = next(some[0] for some in ranks if some)
    chosen.notes = [note for answer in answers for note in answer.notes]
    chosen.said = list(dict.fromkeys(line for answer in answers for line in answer.said))
    chosen.look = any(answer.look for answer in answers)
    return chosen


def judge(
    task: Task, settings: Config, deadline: Deadline, clock: Clock, stage: Callable[[str, str, Deadline], None]
) -> list[Answer]:
    """Return an answer for every Go that the transaction touches, up to the first veto. Raises CannotLook, NotFound.

    Before a veto, all other packages of the transaction are searched for parts of that Go: a vendor may have moved the
    tools or the sources to a package of another name and version, which the updater does not tell.
    """
    files = _files(task)
    in_a_view = _can_view(deadline)
    answers, folders = _of_all(task, list(files.values()), in_a_view, settings, deadline, clock, stage)
    if any(answer.message and answer.status == EXIT_BLOCK for answer in answers):
        stage("searching", "incoming", Deadline(SEARCH_SECONDS))
        more = _parts(task, files, folders)
        if more:
            again = Deadline(deadline.budget, ceiling=min(deadline.ceiling, MOST_SECONDS - deadline.elapsed()))
            stage("reading", "incoming", again)
            answers, _ = _of_all(task, [*files.values(), *more], in_a_view, settings, again, clock, stage)
    return answers


def _of_all(
    task: Task,
    files: Sequence[str],
    in_a_view: bool,
    settings: Config,
    deadline: Deadline,
    clock: Clock,
    stage: Callable[[str, str, Deadline], None],
) -> tuple[list[Answer], set[str]]:
    """Return an answer for every Go in these files, up to the first veto, and the folders in which they are."""
    from go_health_hook.go import incoming, unpack

    leaving = [item.full for item in task.transaction.items if not item.coming]
    answers: list[Answer] = []
    folders: set[str] = set()
    homes = [task.survey.goroot]
    while homes and not any(answer.message for answer in answers):
        unpack.forget(task.token)
        began = deadline.elapsed()
        laid = incoming.lay_out(files, leaving, homes.pop(0), in_a_view, task.token)
        if laid is None:
            break
        folders |= set(laid.folders)
        if not answers:
            homes += laid.others
        else:
            deadline.credit(deadline.elapsed() - began)  # to unpack another one was our work too
        judging = Deadline(deadline.budget, ceiling=deadline.ceiling - deadline.elapsed(), clock=clock)
        stage("judging", "incoming", judging)
        answers.append(_of_incoming(task, laid, in_a_view, settings, judging, stage))
    return answers, folders


def _files(task: Task) -> dict[str, str]:
    """Return the files of the incoming packages that may be Go's, by full name. Raises CannotLook, NotFound."""
    from go_health_hook.gates._dnf_transaction import NotFound
    from go_health_hook.go import unpack
    from go_health_hook.linux import rpmfile

    items = task.transaction.items
    evrs = {item.evr for item in items if item.name in task.names}
    wanted = [i.full for i in items if i.coming and (i.name in task.names or i.evr in evrs)]
    files = rpmfile.locate({full: task.places.get(full, []) for full in wanted})
    missing = [full for full in wanted if full not in files]
    if missing and not task.last:
        raise NotFound(missing)
    if missing:
        raise unpack.CannotLook(f"the file of {clean(missing[0])} was not found")
    return files


def _parts(task: Task, known: Mapping[str, str], folders: set[str]) -> list[str]:
    """Return the files of further incoming packages that have something in these folders. Raises NotFound."""
    from go_health_hook.gates._dnf_transaction import NotFound
    from go_health_hook.go import incoming
    from go_health_hook.linux import rpmfile

    wanted = [item.full for item in task.transaction.coming if item.full not in known]
    files = rpmfile.locate({full: task.places.get(full, []) for full in wanted})
    missing = [full for full in wanted if full not in files]
    if missing and not task.last:
        raise NotFound(missing)
    found = [(path, rpmfile.header_of(path)) for path in files.values()]
    return [path for path, header in found if header is not None and incoming.reaches(header, folders)]


def _can_view(deadline: Deadline) -> bool:
    """Return whether bubblewrap is there and works here."""
    from go_health_hook.run import process, sandbox

    if not sandbox.host().bwrap:
        return False
    try:
        done = process.run(["/bin/true"], deadline, sandbox=sandbox.Sandbox())
    except sandbox.Unsandboxed:
        return False
    return done.ok and bool(sandbox.host().bwrap)


def _of_incoming(
    task: Task,
    laid: Incoming,
    in_a_view: bool,
    settings: Config,
    deadline: Deadline,
    stage: Callable[[str, str, Deadline], None],
) -> Answer:
    from go_health_hook.examine import examine_here
    from go_health_hook.go.unpack import CannotLook
    from go_health_hook.linux import cgroup

    excused = False
    if laid.problem:
        examination = made_up(laid.problem, settings, deadline)
    else:
        subject, goroot = laid.subject(in_a_view)
        examination = examine_here(subject, settings, deadline, goroot=goroot)
        excused = excuse_libraries(task, examination, stage)
        name_final_paths(examination, goroot, laid.goroot)
    offline = task.transaction.offline
    if offline is not None:
        offline.alone = {item.name for item in task.transaction.coming} <= {*laid.names}
    suspect = any(f.check == "gomaxprocs" and f.status == FAIL for f in examination.findings)
    answer = decide(
        task.transaction.gate,
        examination,
        settings,
        in_force(),
        names=laid.names,
        sound_before=sound_before(laid.before, cgroup.read_chain(), cgroup.affinity()) if suspect else (),
        notes=laid.notes,
        look=excused,
        offline=offline,
    )
    link, target = _missing_link(laid, next((f.summary for f in examination.findings if f.blocks), ""))
    if answer.message and link:
        raise CannotLook(f"{link} is a link to {target}, and is looked at once it is installed")
    return answer


def _missing_link(laid: Incoming, summary: str) -> tuple[str, str]:
    """Return the link out of GOROOT that a finding is about, and where it leads; both are empty where it is about none.

    Where the folder of the tools is such a link, the finding names another one in its place, since none is there.
    """
    words = [word.strip(":,") for word in summary.split()]
    for link, target in laid.elsewhere:
        folder = os.path.dirname(link)
        place = folder if folder.endswith("/pkg/tool") else link
        if any(f"{word}/".startswith(f"{place}/") for word in words):
            return link, target
    return "", ""


def name_final_paths(examination: Examination, laid: str, goroot: str) -> None:
    """Name the files of an incoming Go by where they will be: `laid` is a private directory, gone when it is read."""
    goroot = clean(goroot)
    for finding in examination.findings:
        finding.summary = finding.summary.replace(laid, goroot)
        finding.remedy = finding.remedy.replace(laid, goroot)
        finding.evidence = {
            key: value.replace(laid, goroot) if isinstance(value, str) else value
            for key, value in finding.evidence.items()
        }
    if examination.toolchain is not None:
        examination.toolchain["goroot"] = goroot
        examination.toolchain["go"] = f"{goroot}/bin/go"


def made_up(problem: str, settings: Config, deadline: Deadline) -> Examination:
    """Return the examination of an incoming Go that its packages' headers alone show to be broken."""
    finding = Finding(FAIL, problem, check="packages")
    found = Examination(Subject("incoming"), deadline, announce=settings.announce, findings=[finding])
    found.elapsed_s = deadline.elapsed()
    return found
