# SPDX-License-Identifier: GPL-2.0-or-later
"""greenboot: which checks its configuration leaves out, and its note of the deployment that is to boot next.

Two programs have this name. greenboot-rs reads its configuration as INI, the older one sources it with bash.
"""

from __future__ import annotations

import os
import shlex

from go_health_hook import files
from go_health_hook.linux import systemd
from go_health_hook.linux.deployments import Unreadable
from go_health_hook.run import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.deadline import Deadline

UNIT = "greenboot-healthcheck.service"
PROGRAM = "/usr/libexec/greenboot/greenboot"
SCRIPT = "50_go_health_hook.sh"
CHECK = f"greenboot/check/required.d/{SCRIPT}"
CONF = "/etc/greenboot/greenboot.conf"
KEY = "DISABLED_HEALTHCHECKS"
GRUBENV = "/boot/grub2/grubenv"
# greenboot-rs: "the next boot is of this deployment"; another one that boots is taken for a kernel that did not start.
NEXT = "greenboot_next_deployment_id"
MAX_BYTES = 1 << 16


def is_installed(base: str = "") -> bool:
    """Return whether greenboot judges boots here: its unit is enabled and not masked, and it has our check."""
    if not any(os.path.exists(f"{base}{folder}/{CHECK}") for folder in ("/usr/lib", "/etc")):
        return False
    return systemd.is_pulled_in(UNIT, base) and systemd.load_state(UNIT, base) == "loaded" and not is_disabled(base)


def is_disabled(base: str = "") -> bool:
    """Return whether the configuration leaves out our check, as the greenboot that is installed reads it."""
    text = _read(base + CONF)
    return SCRIPT in (disabled_by_ini(text) if files.head(base + PROGRAM, 4) == b"\x7fELF" else disabled_by_bash(text))


def disabled_by_ini(text: str) -> list[str]:
    """Return the names in DISABLED_HEALTHCHECKS= as greenboot-rs reads them; none where it cannot read the value.

    One line: a list in parentheses, or bare names. Single quotes, a comment behind the value, several lines and `+=`
    are not understood, and then every check runs.
    """
    found: list[str] = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if not equals or key.strip() != KEY:
            continue
        value = value.strip()
        if "'" in value or "#" in value or ";" in value or value.startswith("(") != value.endswith(")"):
            found = []
            continue
        found = [word.strip('"') for word in value.strip("()").split()]
    return found


def disabled_by_bash(text: str) -> list[str]:
    """Return the names in DISABLED_HEALTHCHECKS as bash has them after sourcing the file: lists, `+=`, quotes.

    What a shell would compute (variables, conditions) is not evaluated.
    """
    found: list[str] = []
    rest = text.splitlines()
    while rest:
        line = rest.pop(0).strip()
        for prefix in ("export ", "declare -a ", "readonly "):
            line = line[len(prefix) :] if line.startswith(prefix) else line
        if not line.startswith((f"{KEY}=", f"{KEY}+=")):
            continue
        key, _, value = line.partition("=")
        while value.lstrip().startswith("(") and ")" not in _without_comments(value) and rest:
            value += "\n" + rest.pop(0)
        words = _shell_words(value)
        found = [*found, *words] if key.endswith("+") else words
    return found


def _without_comments(text: str) -> str:
    return "\n".join(line.partition(" #")[0] for line in text.splitlines() if not line.strip().startswith("#"))


def _shell_words(value: str) -> list[str]:
    value = value.strip()
    if value.startswith("("):
        value = _without_comments(value)[1:].partition(")")[0]
        limit = None
    else:
        limit = 1  # a plain assignment takes one word
    try:
        words = shlex.split(value, comments=True)
    except ValueError:
        return []
    words = words[:limit]
    return words[0].split() if limit and words else words


def next_deployment(path: str = GRUBENV) -> str:
    """Return the id that greenboot-rs has noted, an ostree checksum or an image digest; empty where there is none.

    Format of the file: GRUB's lib/envblk.c.
    """
    for line in _read(path).splitlines():
        key, equals, value = line.partition("=")
        if equals and key == NEXT:
            return value.strip()
    return ""


def forget_next_deployment(deadline: Deadline, path: str = GRUBENV) -> None:
    """Remove that note, and nothing else. Raises Unreadable where it is still there afterwards.

    Where /boot is read-only it is made writable in the caller's mount namespace, which should be one of its own.
    """
    boot = os.path.dirname(os.path.dirname(path))
    if os.statvfs(boot).f_flag & os.ST_RDONLY:
        process.run_host("mount", ["-o", "remount,bind,rw", boot], deadline)
    program = next((name for name in ("grub2-editenv", "grub-editenv") if process.has_host(name)), "grub2-editenv")
    result = process.run_host(program, [path, "unset", NEXT], deadline)
    if next_deployment(path):
        raise Unreadable(f"{path}: {NEXT} is still set: {program} {result.why()}")


def _read(path: str) -> str:
    return files.head(path, MAX_BYTES).decode("utf-8", "replace")
