# SPDX-License-Identifier: GPL-2.0-or-later
"""The mutations: text of a file that stands there once, and a wrong one in its place."""

from __future__ import annotations

from typing import NamedTuple

TESTS = {
    "policy.py": ["test_policy.py", "test_record.py", "test_gates_judge.py"],
    "verdict.py": ["test_policy.py", "test_record.py"],
    "announce/record.py": ["test_record.py", "test_announce.py"],
    "announce/motd.py": ["test_record.py", "test_announce.py"],
    "announce/publish.py": ["test_announce.py"],
    "commands/status.py": ["test_wiring.py"],
    "override.py": ["test_override.py"],
    "gates/_dnf.py": ["test_gates_judge.py", "test_gates_calls.py"],
    "gates/_dnf_judge.py": ["test_gates_judge.py", "test_gates_calls.py"],
    "gates/_dnf_transaction.py": ["test_gates_dnf.py", "test_gates_judge.py"],
    "gates/_going_back.py": ["test_going_back.py"],
    "gates/boot.py": ["test_gates_units.py"],
    "gates/look.py": ["test_gates_units.py"],
    "gates/offline.py": ["test_gates_units.py"],
    "gates/rpm_ostree.py": ["test_gates_units.py"],
    "gates/staged.py": ["test_staged.py"],
    "run/view.py": ["test_process.py"],
    "run/sandbox.py": ["test_process.py"],
}


class Mutation(NamedTuple):
    file: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(self.old.split())!r} -> {' '.join(self.new.split())!r}"


def of(file: str, *pairs: tuple[str, str]) -> list[Mutation]:
    return [Mutation(file, old, new) for old, new in pairs]


MUTATIONS = [
    *of(
        "policy.py",
        ("if finding.severity in (ADVISORY, OFF) or", "if finding.severity == OFF or"),
        ("finding.status not in (FAIL, TIMEOUT)", "finding.status != FAIL"),
        ("finding.ground is not NOT_JUDGED or case.starved_blocks", "True"),
        ("finding.ground is not NOT_JUDGED or case.starved_blocks", "finding.ground is not NOT_JUDGED"),
        ("            finding.blocks = False\n", "            pass\n"),
        ("if finding.check in case.sound_before:", "if True:"),
        ("if finding.check in case.sound_before:", "if False:"),
        ("finding.ground = WORSE", "finding.ground = BROKEN"),
        ("finding.status = WARN\n", "pass\n"),
        ("finding.ground if finding.ground is NOT_JUDGED else None", "None"),
        (" or case.by_hand or finding.severity == REQUIRED", " or finding.severity == REQUIRED"),
        (" or case.by_hand or finding.severity == REQUIRED", " or case.by_hand"),
        ("if case.override:", "if False:"),
        ("if case.powerless:", "if False:"),
        ("blocking <= set(case.standing) and", "blocking & set(case.standing) and"),
        ("and not case.standing_blocks", ""),
        ("    if failed:\n", "    if failed and not late:\n"),
        ("    if faults:\n", "    if False:\n"),
        ("f.status == ERROR and f.severity not in (ADVISORY, OFF)", "f.status == ERROR"),
        ("    if case.nothing:\n", "    if False:\n"),
        ("_take(finding.copy(), case)", "_take(finding, case)"),
        ("    examination.findings = decision.findings\n", ""),
        ("case.nothing = case.nothing or examination.nothing", "pass"),
        ("Action.UNDECIDED if verdict.exit_status == EXIT_INTERNAL else Action.ALLOW", "Action.ALLOW"),
    ),
    *of(
        "verdict.py",
        ("f.blocks and f.ground is BROKEN and f.check not in LIMIT_CHECKS", "f.blocks and f.ground is BROKEN"),
        ("f.blocks and f.ground is BROKEN and f.check not in LIMIT_CHECKS", "f.ground is BROKEN"),
        ("f.ground is NOT_JUDGED and f.severity not in (ADVISORY, OFF)", "f.ground is NOT_JUDGED"),
    ),
    *of(
        "announce/record.py",
        ('new["subject"] == "running" and new["exit_status"] == 0 and not', 'new["exit_status"] == 0 and not'),
        ('and new["exit_status"] == 0 and not new["not_judged"]', 'and not new["not_judged"]'),
        ('and new["exit_status"] == 0 and not new["not_judged"]', 'and new["exit_status"] == 0'),
        ('if new["subject"] == "running" and new["broken"]:', 'if new["broken"]:'),
        ('        state["broken"] = None\n', "        pass\n"),
        ('state["broken"]["since"] if state["broken"] else now', "now"),
        ('    if new["event"] == LOST:\n        return []', "    if False:\n        return []"),
        ('new["exit_status"] == EXIT_INTERNAL or new["not_judged"]', 'new["exit_status"] == EXIT_INTERNAL'),
        ('elif new["event"] != AFTER or (', "elif True or ("),
        ('new["exit_status"] == 0 and unjudged.get(gate, {}).get("judged_later")', 'new["exit_status"] == 0'),
        ('new["exit_status"] == 0 and unjudged.get(gate, {}).get("judged_later")', "False"),
        ('entry["count"] += 1', 'entry["count"] = 1'),
        ('block["count"] += 1', 'block["count"] = 1'),
        ("    if gate in blocks:\n        over.append(gate)\n", ""),
        ('if block["subject"] == "running" and name not in over]', "if name not in over]"),
        (
            'return bool(run["verdict"] == "block" and run["event"] == VERDICT)',
            'return bool(run["verdict"] == "block")',
        ),
        ("[-MAX_HISTORY:]", ""),
        ('        state["unjudged"].pop(name, None)\n', ""),
    ),
    *of(
        "announce/motd.py",
        ('now - u["since"] >= DAY and u["gate"] != "check"', 'u["gate"] != "check"'),
        (' and u["gate"] != "check"', ""),
        ('    elif state["broken"]:\n', "    elif False:\n"),
    ),
    *of("announce/publish.py", ("if not told:", "if False:")),
    *of(
        "commands/status.py",
        ('bad = since is not None or state["broken"] is not None', "bad = since is not None"),
        (" or bool(unjudged) or bool(damage)", " or bool(damage)"),
        ("if name in here or not wiring.lets_go(name)", "if True"),
    ),
    *of(
        "override.py",
        ("info.st_uid != 0 or info.st_mode & 0o022", "info.st_mode & 0o022"),
        ("info.st_uid != 0 or info.st_mode & 0o022", "info.st_uid != 0"),
        ("if not 0 < left <= seconds <= MAX_SECONDS:", "if not 0 < left <= MAX_SECONDS:"),
        ("if not 0 < left <= seconds <= MAX_SECONDS:", "if not 0 < left <= seconds:"),
        ("if boot and boot == _boot() else", "if boot else"),
        ("os.O_RDONLY | os.O_NOFOLLOW |", "os.O_RDONLY |"),
        ("if number or not 0 < total <= MAX_SECONDS:", "if number or not 0 < total:"),
    ),
    *of(
        "gates/_dnf_judge.py",
        ("if chain.certain and fits else []", "if fits else []"),
        ("if chain.certain and fits else []", "if chain.certain else []"),
        ("decision.action is Action.UNDECIDED or examination.not_judged", "decision.action is Action.UNDECIDED"),
        ("elif all(f.check in LIMIT_CHECKS for f in blocking):", "elif False:"),
        ("event = record.OVERRIDE if decision.action is Action.OVERRIDE else record.VERDICT", "event = record.VERDICT"),
        ("if finding.status == TIMEOUT:\n", "if False:\n"),
    ),
    *of(
        "gates/_dnf.py",
        ("bool(touching and update and transaction.automatic)", "False"),
        ("everything and not transaction.removes_us", "everything"),
        ("running = update or (everything", "running = (everything"),
    ),
    *of(
        "gates/_dnf_transaction.py",
        ("self.automatic and (self.replaces or older_installed)", "self.replaces or older_installed"),
    ),
    *of(
        "gates/_going_back.py",
        ("or own.goroot != goroot or not culprits", "or not culprits"),
        ("    if previous.broken:\n", "    if False:\n"),
        ("    if previous.unclear:\n", "    if False:\n"),
    ),
    *of(
        "gates/boot.py",
        ("if decision.action is Action.BLOCK and not call.dry_run else", "if decision.action is Action.BLOCK else"),
        ("event = record.OVERRIDE if decision.action is Action.OVERRIDE else record.FOUND", "event = record.FOUND"),
        ("if examination.verdict.exit_status == EXIT_TIMEOUT and budget > FIRST_SECONDS:", "if False:"),
    ),
    *of(
        "gates/look.py",
        ("        if before == rpmdb.state():\n", "        if True:\n"),
        ("event=record.AFTER", "event=record.VERDICT"),
    ),
    *of(
        "gates/offline.py",
        ('in ("off", "automatic"):', 'in ("off",):'),
        ("            return answer.status\n", "            return EXIT_ALLOW\n"),
        ("        if before == files.looks(offline.STATES):\n", "        if True:\n"),
    ),
    *of(
        "gates/rpm_ostree.py",
        ("return EXIT_ALLOW if call.dry_run else EXIT_VETO", "return EXIT_VETO"),
        ("    if override is not None:\n", "    if False:\n"),
        ("event = record.WARNED if verdict.block else record.VERDICT", "event = record.VERDICT"),
        ("if names and names[0] and names[0] in known:", "if any(name in known for name in names):"),
    ),
    *of(
        "gates/staged.py",
        ("self.lock.note.ours and self._says_nothing_new(decision, examination)", "False"),
        ("return late and self.lock.note.proven and", "return late and"),
        ('decision.verdict.exit_status == EXIT_TIMEOUT and before == "allow"', "False"),
        ("f.blocks and (f.status != TIMEOUT or f.check not in proven)", "False"),
        (" and (f.status != TIMEOUT or f.check not in proven)", ""),
        ("bool(unsure) and not case.starved_blocks", "False"),
        ('powerless="on-failure = warn" if warn else ""', 'powerless=""'),
    ),
    *of(
        "run/view.py",
        ('"--unshare-net", ', ""),
        ('"--unshare-pid", ', ""),
        ('"--cap-drop", "ALL", ', ""),
        ('"--new-session", ', ""),
        ('"--ro-bind", source, inner + target]\n    return args', '"--bind", source, inner + target]\n    return args'),
        ('"--no-new-privs", "--bounding-set=-all"]', '"--no-new-privs"]'),
        ('"--clear-groups", ', '"--keep-groups", '),
        ('["--size", str(MAX_TMP)]', '["--size", str(MAX_TMP << 20)]'),
    ),
    *of(
        "run/sandbox.py",
        ("(resource.RLIMIT_CORE, 0)", "(resource.RLIMIT_CORE, 1 << 30)"),
        ("(resource.RLIMIT_FSIZE, MAX_FILE)", "(resource.RLIMIT_FSIZE, MAX_FILE << 20)"),
    ),
]
