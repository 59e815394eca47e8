# SPDX-License-Identifier: GPL-2.0-or-later
"""What dnf4 and dnf5 share: which transactions are judged, by which toolchain, and what a veto says."""

from __future__ import annotations

import os
import sys

from go_health_hook import files, override
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, EXIT_TIMEOUT, EXIT_USAGE, BadInput, HookError
from go_health_hook.run.worker import bounded
from go_health_hook.subject import Subject
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.go.incoming import Incoming, Place
    from go_health_hook.verdict import Examination
    from go_health_hook.wiring import View, Wired

# What the updater is kept waiting at most, whatever [budget] says: the time-out in the action line is the last resort.
CEILING = 110.0
BUDGET = 5.0
LOOK_SECONDS = 2.0  # for a look at a few files
MAX_NOTES = 5  # in a message
LATE = "the incoming Go is not judged: time ran out while it was read out of its packages"
BEFORE = "/run/go-health-hook/before"
OURS = ("go-health-hook", "go-health-hook-dnf5", "python3-dnf-plugin-go-health-hook")
ONCE = "go-health-hook override --for 2h --reason TEXT"


class Item:
    """A package of a transaction. `action` and `coming` as libdnf5-actions(8) has them; `full` has the epoch always.

    `places` are those where its file may be (incoming.Place), in turns: what the updater has to be asked for comes
    when the turn before it has not brought it to light.
    """

    __slots__ = ("action", "coming", "evr", "full", "name", "places")

    def __init__(
        self, name: str, evr: str, action: str, coming: bool, full: str, places: Callable[[], Iterable[list[Place]]]
    ) -> None:
        self.name = name
        self.evr = evr
        self.action = action
        self.coming = coming
        self.full = full
        self.places = places


class Transaction:
    """What an updater is about to do; `go_names(goroot, deadline)` names those of it that own or bring Go's files."""

    __slots__ = ("automatic", "gate", "go_names", "items")

    def __init__(
        self, gate: str, items: Sequence[Item], automatic: bool, go_names: Callable[[str, Deadline], set[str]]
    ) -> None:
        self.gate = gate
        self.items = list(items)
        self.automatic = automatic
        self.go_names = go_names

    @property
    def upgrades(self) -> bool:
        """Whether anything in it is upgraded."""
        return any(item.action == "U" for item in self.items)

    @property
    def replaces(self) -> bool:
        """Whether anything installed is downgraded in it, or makes room for a package of another name (Obsoletes)."""
        coming = {item.name for item in self.items if item.coming}
        return any(item.action == "D" or (item.action == "O" and item.name not in coming) for item in self.items)


class Outcome:
    """The answer to the updater: an exit status and, for a veto, the message. `notes` are for its log."""

    __slots__ = ("message", "notes", "status")

    def __init__(self, status: int = EXIT_ALLOW, message: str = "", notes: Sequence[str] = ()) -> None:
        self.status = status
        self.message = message
        self.notes = list(notes)


ERROR, WARNING = 3, 4  # syslog's, which is loaded when there is something to say


def loud(line: str, priority: int = ERROR) -> None:
    """Say something that an admin must not miss: on stderr, and in the journal."""
    print(f"go-health-hook: {line}", file=sys.stderr, flush=True)
    import syslog

    syslog.openlog("go-health-hook", 0, syslog.LOG_DAEMON)
    syslog.syslog(priority, line)


def settings_of(gate: str, configuration: Callable[[], Config]) -> Config | None:
    """The configuration, or None where it cannot be used: then nothing is judged, which is said loudly and recorded.

    To go on with defaults would overrule what the admin tried to say, a `transactions = off` among it.
    """
    try:
        return configuration()
    except BadInput as error:
        loud(f"{error.line()}. Until then no transaction is judged")
        _record_fault(gate, error.line())
        return None


def is_automatic(pid: int) -> bool:
    """Whether the updater with that process number runs unattended: by its name, or as a service without terminal."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = [w.decode("utf-8", "replace") for w in file.read(65536).split(b"\0")]
        names = [os.path.basename(w) for w in words[:3]]
        if any(n.startswith("dnf-automatic") for n in names):
            return True
        if names and names[0] in ("dnf5", "dnf", "yum") and "automatic" in words[1:]:
            return True
        with open(f"/proc/{pid}/stat", "rb") as file:
            terminal = int(file.read().rpartition(b")")[2].split()[4])
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as groups:
            in_service = any(line.rstrip().endswith(".service") and "/user@" not in line for line in groups)
        return terminal == 0 and in_service
    except (OSError, ValueError, IndexError):
        return False


def answer(
    gate: str, words: Sequence[str], configuration: Callable[[], Config], transaction: Callable[[int], Transaction]
) -> Outcome:
    """What a call of a gate comes to: `gate GATE before|after PID`, PID being the updater's own. Raises BadInput."""
    if len(words) != 2 or words[0] not in ("before", "after") or not words[1].isdecimal():
        raise BadInput(f"gate {gate} takes: before|after PID", hint=f"it is called by {gate} itself")
    if words[0] == "after":
        return Outcome(recheck(gate, configuration))
    forget_before()  # a transaction that was judged and never came to its end left it
    settings = settings_of(gate, configuration)
    if settings is None:
        return Outcome(EXIT_USAGE)
    if settings.get("dnf", "transactions") == "off":
        _release(gate, settings)
        return Outcome()
    try:
        return judge(transaction(int(words[1])), settings)
    except Exception as error:
        line = error.line() if isinstance(error, HookError) else f"a fault of the hook's own: {error!r}"
        _record_fault(gate, line, settings)
        raise


def judge(transaction: Transaction, settings: Config) -> Outcome:
    """Decide on a transaction before anything of it is installed."""
    mode = settings.get("dnf", "transactions")
    if (mode == "automatic" and not transaction.automatic) or not transaction.items:
        return Outcome()
    deadline = _deadline(settings, person=not transaction.automatic)
    goroot, looks = bounded(lambda: _survey(settings), deadline, ["", ""])
    names = transaction.go_names(goroot, deadline)
    touching = [item for item in transaction.items if item.name in names]
    coming = [item for item in touching if item.coming]
    if goroot or coming:
        remember(goroot, looks)
    update = _is_update(transaction, deadline)
    if coming or (touching and update and transaction.automatic):
        outcome = _judge_incoming(transaction, settings, deadline, goroot, names)
        if outcome is not None:
            return outcome
    elif touching and (not update or _go_owner(goroot, deadline) in {item.name for item in touching}):
        return Outcome(notes=["a person removes Go: not judged"])
    if update or (mode == "all" and not _removes_us(transaction)):
        return _decide(_examine(Subject(), settings, deadline, items=transaction.items), transaction, settings)
    return Outcome()


def _deadline(settings: Config, person: bool) -> Deadline:
    """Return the deadline of a call; `person`: somebody waits for it at a terminal."""
    wall = ceiling_of(settings.get("budget", "ceiling"), person=person)
    return Deadline(min(settings.budget(__name__, BUDGET), CEILING), ceiling=min(wall, CEILING))


def _is_update(transaction: Transaction, deadline: Deadline) -> bool:
    """Whether a transaction brings what is installed to another release.

    A person's does by upgrades alone: who downgrades something may be repairing it. What runs unattended also by
    what takes the place of something else, and by new packages beside older ones of their name, as kernels have it.
    All other installing and removing was asked for by a person, through a daemon as PackageKit's too.
    """
    if transaction.upgrades or not transaction.automatic:
        return transaction.upgrades
    new = [item.name for item in transaction.items if item.action == "I"]
    return transaction.replaces or (bool(new) and bool(bounded(lambda: _installed(new), deadline, True)))


def _removes_us(transaction: Transaction) -> bool:
    """Whether it takes the hook itself off this machine, which is one way to get past it."""
    coming = {item.name for item in transaction.items if item.coming}
    return any(item.name in OURS and item.name not in coming for item in transaction.items)


def _go_owner(goroot: str, deadline: Deadline) -> str:
    """The name of the installed package that has the go command, or an empty string."""

    def look() -> str:
        from go_health_hook.linux.rpmdb import ownership

        go = ownership("/", goroot).go
        return go.name if go else ""

    return str(bounded(look, deadline, ""))


def recheck(gate: str, configuration: Callable[[], Config]) -> int:
    """Look at the live toolchain again after a transaction, where that has changed it; a regression is announced."""
    try:
        with open(BEFORE, encoding="utf-8", errors="surrogateescape") as file:
            goroot, _, before = file.read(65536).partition("\n")
    except OSError:
        return EXIT_ALLOW
    forget_before()
    if bounded(lambda: _looks(goroot), Deadline(LOOK_SECONDS), "", dead="") == before:
        return EXIT_ALLOW
    settings = settings_of(gate, configuration)
    if settings is None or settings.get("dnf", "transactions") == "off":
        return EXIT_ALLOW if settings else EXIT_USAGE
    deadline = _deadline(settings, person=os.isatty(2))
    examination = _examine(Subject(), settings, deadline)
    _publish(examination, gate, "found" if examination.verdict.block else "verdict")
    if examination.verdict.block:
        loud(f"after this transaction Go is broken: {examination.verdict.reason}")
    return examination.verdict.exit_status


# What of a toolchain tells that a transaction has changed it, and what it runs on: files below GOROOT, files elsewhere.
TELLTALES = (
    *("", "/bin", "/bin/go", "/VERSION", "/go.env", "/pkg", "/pkg/tool"),
    *("/src", "/src/runtime", "/src/crypto", "/src/crypto/tls"),
)
SYSTEM_TELLTALES = ("/usr/bin/go", "/etc/alternatives/go", "/lib64/libc.so.6", "/usr/lib64/libc.so.6")


def remember(goroot: str, looks: str) -> None:
    """Keep how the toolchain, or the places for a first one, look before a transaction, for `recheck`."""
    try:
        os.makedirs(os.path.dirname(BEFORE), 0o755, exist_ok=True)
        files.replace(BEFORE, f"{goroot}\n{looks}")
    except OSError as error:
        print(f"go-health-hook: {BEFORE}: {error.strerror}", file=sys.stderr)


def forget_before() -> None:
    """Have nothing looked at again after this transaction."""
    try:
        os.unlink(BEFORE)
    except OSError:
        pass


def _survey(settings: Config) -> list[str]:
    goroot = live_goroot(settings)
    return [goroot, _looks(goroot)]


def _looks(goroot: str) -> str:
    from go_health_hook.go.toolchain import FAMILIAR

    tools = f"{goroot}/pkg/tool"
    try:
        paths = [f"{tools}/{d}/{t}" for d in sorted(os.listdir(tools)) for t in ("", "compile", "link", "asm")]
    except OSError:
        paths = []
    lines = []
    homes = [goroot] if goroot else FAMILIAR
    for path in [*(home + t for home in homes for t in TELLTALES), *paths, *SYSTEM_TELLTALES]:
        try:
            info = os.lstat(path)
            lines.append(f"{info.st_dev} {info.st_ino} {info.st_size} {info.st_mode} {info.st_ctime_ns}")
        except OSError as error:
            lines.append(str(error.errno))
    return "\n".join(lines)


def _installed(names: Sequence[str]) -> bool:
    """Whether a package of one of these names is installed."""
    from go_health_hook.linux.rpmdb import has_any

    return has_any(names)


def live_goroot(settings: Config) -> str:
    """The GOROOT that is judged on this machine now, or an empty string."""
    from go_health_hook.go.toolchain import find

    configured = settings.get("toolchain", "goroot")
    found = find(Subject(), "" if configured == "auto" else configured)
    return found.goroot if found else ""


def _examine(
    subject: Subject, settings: Config, deadline: Deadline, goroot: str = "", items: Sequence[Item] = ()
) -> Examination:
    from go_health_hook.examine import examine

    examination = examine(subject, settings, deadline, goroot=goroot)
    if items and any(finding.status == "fail" for finding in examination.findings):
        from go_health_hook.gates import _libraries

        if _libraries.excuse(examination.findings, items):
            # Looked at again afterwards, whatever looks changed: libraries are not among the telltales.
            remember(goroot, "")
    return _settled(examination, settings)


def _settled(examination: Examination, settings: Config) -> Examination:
    from go_health_hook import policy

    policy.settle(examination, policy.Case(starved_blocks=settings.get("budget", "starved") == "block"))
    return examination


def _judge_incoming(
    transaction: Transaction, settings: Config, deadline: Deadline, goroot: str, names: set[str]
) -> Outcome | None:
    """Judge the toolchain that the transaction will leave behind; None where it turns out to bring nothing of Go."""
    from go_health_hook.go import incoming

    evrs = {item.evr for item in transaction.items if item.name in names}
    candidates = [item for item in transaction.items if item.coming and (item.name in names or item.evr in evrs)]
    try:
        paths = _find(candidates, deadline)
    except FileNotFoundError as error:
        return _undecided(f"the incoming Go is not judged: {error}", transaction, settings)
    except TimeoutError:
        return _undecided(f"{LATE}: {more_time(deadline)}", transaction, settings)
    token = incoming.new_token()
    leaving = [item.full for item in transaction.items if not item.coming]

    def look() -> list[Any]:
        in_a_view = _can_view(deadline)
        try:
            laid = incoming.lay_out(paths, leaving, goroot, in_a_view, token)
        except incoming.CannotLook as error:
            return [str(error), in_a_view, None]
        return ["", in_a_view, laid.to_message() if laid else None]

    try:
        why, in_a_view, message = bounded(look, deadline, ["", False, []])
        if why:
            return _undecided(f"the incoming Go is not judged: {why}", transaction, settings)
        if message is None:
            return None
        if not message:
            return _undecided(f"{LATE}: {more_time(deadline)}", transaction, settings)
        laid = incoming.Incoming.from_message(message)
        # The toolchain's own time begins here: to unpack it was our work.
        judging = Deadline(deadline.budget, ceiling=deadline.ceiling - deadline.elapsed())
        return _decide(_of_incoming(laid, in_a_view, settings, judging, transaction), transaction, settings, laid)
    finally:
        # What cannot be removed in time is left for the next run's sweep.
        bounded(lambda: incoming.forget(token), Deadline(LOOK_SECONDS), None, dead=None)


def _find(items: Sequence[Item], deadline: Deadline) -> list[str]:
    """The files of incoming packages, each known by its header. Raises FileNotFoundError, TimeoutError."""
    from go_health_hook.go import incoming

    turns = {item.full: iter(item.places()) for item in items}
    found: dict[str, str] = {}
    while len(found) < len(turns):
        turn = {full: next(turns[full], None) for full in turns if full not in found}
        nowhere = [full for full, places in turn.items() if places is None]
        if nowhere:
            raise FileNotFoundError(f"the file of {clean(nowhere[0])} was not found")
        new = bounded(lambda turn=turn: incoming.locate(turn), deadline, None)  # type: ignore[misc]
        if new is None:
            raise TimeoutError
        found.update(new)
    return list(found.values())


def _can_view(deadline: Deadline) -> bool:
    """Whether bubblewrap is there and works here."""
    from go_health_hook.run import process, sandbox

    if not sandbox.host().bwrap:
        return False
    try:
        done = process.run(["/bin/true"], deadline, sandbox=sandbox.Sandbox())
    except sandbox.Unsandboxed:
        return False
    return done.ok and bool(sandbox.host().bwrap)


def _of_incoming(
    laid: Incoming, in_a_view: bool, settings: Config, deadline: Deadline, transaction: Transaction
) -> Examination:
    if laid.problem:
        return _made_up(laid.problem, settings, deadline)
    subject, goroot = laid.subject(in_a_view)
    examination = _examine(subject, settings, deadline, goroot, transaction.items)
    if examination.toolchain is not None:
        examination.toolchain["goroot"] = clean(laid.goroot)
        examination.toolchain["go"] = f"{clean(laid.goroot)}/bin/go"
    return examination


def more_time(deadline: Deadline) -> str:
    """Return what helps where time ran out, in words: nothing that a vendor could mend."""
    seconds = min(max(20.0, 4 * deadline.budget), CEILING)
    return f"set [budget] dnf = {seconds:g} in /etc/go-health-hook.conf, or try again when the machine is less busy"


def _made_up(problem: str, settings: Config, deadline: Deadline) -> Examination:
    """An examination of an incoming Go with one finding: what is known before any check is run."""
    from go_health_hook.verdict import FAIL, Examination, Finding

    examination = Examination(Subject("incoming"), deadline)
    examination.announce = settings.announce
    finding = Finding(FAIL, problem)
    finding.check = "packages"
    examination.findings.append(finding)
    examination.elapsed_s = deadline.elapsed()
    return _settled(examination, settings)


def _undecided(line: str, transaction: Transaction, settings: Config) -> Outcome:
    loud(f"{line}. The update goes on")
    _record_fault(transaction.gate, line, settings, "incoming")
    return Outcome(EXIT_INTERNAL)


def _record_fault(gate: str, line: str, settings: Config | None = None, kind: str = "running") -> None:
    """Keep that nothing was decided, and why: `status` is not to call that well."""
    from go_health_hook.verdict import Examination, Verdict

    examination = Examination(Subject(kind), Deadline(0))
    if settings is not None:
        examination.announce = settings.announce
    examination.verdict = Verdict(EXIT_INTERNAL, clean(line, 600))
    _publish(examination, gate)


def _release(gate: str, settings: Config) -> None:
    """End what the gate held back before it was switched off."""
    from go_health_hook.announce import publish, record

    def holds() -> bool:
        try:
            return gate in record.read()["blocks"]
        except HookError:
            return False

    if bounded(holds, Deadline(LOOK_SECONDS), False, dead=False):
        announce = settings.announce
        publish.release(gate, announce)


def _decide(
    examination: Examination, transaction: Transaction, settings: Config, laid: Incoming | None = None
) -> Outcome:
    """The answer to the updater, announced."""
    verdict = examination.verdict
    if examination.subject.kind == "incoming":
        _reword(examination, laid)
    lost = _lost_knowledge(examination, laid)
    notes = [*lost, *(laid.notes if laid else [])]
    if not verdict.block:
        for line in lost:
            loud(f"{line}. The update goes on", WARNING)
        if verdict.exit_status == EXIT_INTERNAL:
            loud(f"{verdict.reason}. The update goes on")
        _publish(examination, transaction.gate)
        return Outcome(verdict.exit_status, notes=[f"{verdict.reason} ({examination.elapsed_s:.2f} s)", *notes])
    let = _override()
    if let is not None:
        _publish(examination, transaction.gate, "override")
        loud(f"the update goes on although {verdict.reason}: {let.line()}")
        return Outcome(EXIT_ALLOW, notes=[let.line(), *notes])
    _publish(examination, transaction.gate)
    forget_before()
    return Outcome(verdict.exit_status, veto(examination, notes[:MAX_NOTES]))


def _override() -> override.Override | None:
    """The override in force; one that cannot be read, or not in time, is none."""

    def look() -> list[Any]:
        try:
            let = override.in_force()
        except BadInput as error:
            return [error.line(), None]
        return ["", [let.left, let.reason, let.by, let.since, let.until] if let else None]

    unread = [f"{override.FILE}: cannot be read in time", None]
    trouble, let = bounded(look, Deadline(LOOK_SECONDS), unread, dead=unread)
    if trouble:
        loud(trouble)
    return override.Override(*let) if let else None


def _reword(examination: Examination, laid: Incoming | None) -> None:
    """Remedies for a toolchain that is not installed yet: not to reinstall it, but to keep it out."""
    names = ",".join(clean(name) for name in laid.names) if laid else "golang*"
    remedy = f"update without it until its vendor has mended it: dnf upgrade --exclude='{names}'"
    if laid and not laid.names:
        remedy = "see what dnf upgrade would replace it with, and exclude that; a person's own upgrade is not stopped"
    for finding in examination.findings:
        if finding.status == "timeout" and finding.blocks:
            finding.remedy = more_time(Deadline(examination.budget_s))
        elif finding.blocks and finding.check not in ("cgroup", "gomaxprocs"):
            finding.remedy = remedy


def _lost_knowledge(examination: Examination, laid: Incoming | None) -> list[str]:
    """A line where the new Go no longer heeds the CPU quota in force here, which the old one does."""
    from go_health_hook.go.versions import parse_version

    quota = (examination.cpu or {}).get("quota_cpus")
    after = (examination.toolchain or {}).get("version")
    if laid is None or not quota or not after or not laid.before:
        return []
    try:
        old, new = parse_version(f"go{laid.before.replace('~', '')}"), parse_version(after)
    except ValueError:
        return []
    if not old.knows_cgroups or new.knows_cgroups:
        return []
    where = (examination.cpu or {}).get("limiting_level")
    return [
        f"{old.name} heeds the quota of {quota:g} CPUs at {where}, {new.name} does not (Go reads quotas since 1.25)"
    ]


def veto(examination: Examination, notes: Sequence[str] = ()) -> str:
    """What the updater prints: what failed, the remedy, and how to go ahead once."""
    incoming = examination.subject.kind == "incoming"
    what = "the Go that this transaction would leave is broken" if incoming else "the Go installed here is broken"
    if examination.verdict.exit_status == EXIT_TIMEOUT:
        what = f"Go could not be judged within {examination.budget_s:g} s"
    lines = [f"go-health-hook: nothing is installed, since {what}."]
    seen = ""
    for finding in examination.findings:
        if not finding.blocks:
            continue
        lines.append(f"  {finding.check}: {finding.summary}")
        if finding.remedy and finding.remedy != seen:
            lines.append(f"    -> {finding.remedy}")
            seen = finding.remedy
    lines += [f"  {note}" for note in notes]
    lines.append(f"  To go ahead once anyway: {ONCE}")
    return "\n".join(lines)


def _publish(examination: Examination, gate: str, event: str = "verdict") -> None:
    from go_health_hook.announce.publish import publish

    publish(examination, gate, event=event)


# --- wired: imported by status alone

DNF_CONF = "/etc/dnf/dnf.conf"


def plugins_off(view: View, files: Sequence[str]) -> Wired | None:
    """Return NOT_WIRED where dnf's settings switch all plugins off, else None."""
    from go_health_hook.wiring import NOT_WIRED, OFF, Wired

    found = view.setting(files, "main", "plugins")
    if found and found[0].lower() in OFF:
        file = found[1].rsplit(":", 1)[0]
        return Wired(NOT_WIRED, f"{found[1]}: plugins = {found[0]}", f"remove that line from {file}")
    return None


def gate_program(view: View, how: str) -> Wired:
    """Return whether the program is there that dnf's side of a gate calls, and is to judge."""
    from go_health_hook.wiring import GATE_PROGRAM, NOT_WIRED, WIRED, Wired

    if not view.executable(GATE_PROGRAM):
        return Wired(NOT_WIRED, f"{GATE_PROGRAM} is missing or not executable", "dnf reinstall go-health-hook")
    if view.config.get("dnf", "transactions") == "off":
        remedy = "set it to updates in /etc/go-health-hook.conf"
        return Wired(NOT_WIRED, "switched off: [dnf] transactions = off", remedy)
    return Wired(WIRED, how)
