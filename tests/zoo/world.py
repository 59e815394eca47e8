# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a case is made: this process's own mounts, with throw-away layers over /usr, /opt, /etc, /home, /srv and /snap.

Run as `python -m tests.zoo.world CASE VERSION HOOK` in a mount namespace of its own (see runner.py); prints JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.testbed import cache
from tests.zoo.case import BROKEN, HEALTHY, NOT_JUDGED, NOTHING, Case, collected

SCRATCH = Path("/mnt")
LAYERED = ("/usr", "/opt", "/etc", "/home", "/srv", "/snap", "/nix")
HOSTS_OWN = ("/usr/local/go", "/usr/local/bin/go", "/usr/bin/go", "/usr/lib/golang", "/opt/go*", "/etc/go-health-hook*")
HELLO = 'package main\n\nimport (\n\t"fmt"\n\t_ "%s"\n)\n\nfunc main() { fmt.Println("hello") }\n'


def run(*argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, errors="replace", **options)


class World:
    """A machine to be made: paths are absolute, parents are made as needed, everything is gone with the process."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.layers = 0

    def go(self, version: str = "") -> Path:
        """A real toolchain, not to be written to."""
        return cache.home() / "go" / (version or self.version)

    def overlay(self, place: str, *lower: Path | str) -> None:
        """Show these directories, the topmost first, at `place`; what is written stays in memory."""
        self.layers += 1
        upper, work = SCRATCH / f"upper{self.layers}", SCRATCH / f"work{self.layers}"
        for path in (upper, work, Path(place)):
            path.mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "-o", options, "zoo", place, check=True)

    def unpack(self, place: str = "/usr/local/go", *versions: str) -> Path:
        """Unpack archives at `place`, the last one over those before it; without `versions` the case's release."""
        self.overlay(place, *(self.go(v) for v in (versions or (self.version,))[::-1]))
        return Path(place)

    def link(self, name: str, target: str | Path) -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def write(self, name: str | Path, text: str | bytes, mode: int = 0o644) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def shell(self, script: str) -> None:
        run("/bin/sh", "-euc", script, check=True)

    def go_env(self, text: str, place: str = "/usr/local/go") -> None:
        """Write GOROOT/go.env as it is given, line ends included."""
        self.write(f"{place}/go.env", text)

    def fedora(self) -> Path:
        """Go as Fedora lays it out: /usr/lib/golang, reached through alternatives."""
        goroot = self.unpack("/usr/lib/golang")
        self.link("/usr/bin/go", "/etc/alternatives/go")
        self.link("/usr/bin/gofmt", "/etc/alternatives/gofmt")
        self.link("/etc/alternatives/go", "/usr/lib/golang/bin/go")
        self.link("/etc/alternatives/gofmt", "/usr/lib/golang/bin/gofmt")
        return goroot


def layer(program: str) -> World:
    """Lay throw-away layers over this namespace's directories; the program to be built there imports `program`."""
    world = World(sys.argv[2])
    run("mount", "--make-rprivate", "/", check=True)
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "zoo", SCRATCH, check=True)
    for place in LAYERED:
        Path(place).mkdir(exist_ok=True)
        world.overlay(place, place)
    for own in HOSTS_OWN:
        # What the machine that runs the tests has; only this namespace's layers lose it.
        world.shell(f"rm -rf {own}")
    kept = cache.home() / "zoo/go-build"
    kept.mkdir(parents=True, exist_ok=True)
    kept.chmod(0o777)
    (SCRATCH / "cache").mkdir()
    run("mount", "--bind", kept, SCRATCH / "cache", check=True)
    world.write(SCRATCH / "hello/hello.go", HELLO % program)
    (SCRATCH / "built").mkdir()
    (SCRATCH / "built").chmod(0o777)
    world.write("/home/alice/.profile", "")
    os.chown("/home/alice", 1000, 1000)
    return world


def builds(case: Case) -> tuple[bool, str]:
    """Whether that user can build and run a program, and what was said."""
    uid, gid = case.user
    user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "env", "-i", f"PATH={case.path}"]
    home = "/home/alice" if uid else "/root"
    user += [f"HOME={home}", f"GOCACHE={SCRATCH}/cache", "GOPROXY=off", "GOTELEMETRY=off"]
    program = SCRATCH / "built/hello"
    built = run(*user, "go", "build", "-o", program, "hello.go", cwd=SCRATCH / "hello", timeout=600)
    if built.returncode:
        return False, (built.stderr + built.stdout).strip()[:500]
    said = run(*user, program, cwd="/")
    return said.stdout == "hello\n", said.stdout + said.stderr


def judged(hook: str, case: Case) -> dict[str, Any]:
    """The report of the hook, and what an updater that calls it would do."""
    done = run(*case.by, hook, "--json", "--dry-run", "--budget", "20", timeout=120)
    if not done.stdout:
        return {"error": done.stderr[-2000:]}
    report = json.loads(done.stdout)
    from go_health_hook import policy
    from go_health_hook.verdict import Finding

    findings = [Finding.from_dict(result) for result in report["results"]]
    decision = policy.decide(findings, policy.Case(nothing="" if report["toolchain"] else report["reason"]))
    required = [f for f in decision.findings if f.severity != "advisory"]
    grounds = {str(f.ground) for f in required if f.ground}
    word = next((w for w in (BROKEN, "worse", NOT_JUDGED) if w in grounds), HEALTHY)
    if not report["toolchain"] and word == HEALTHY:
        word = NOTHING
    lines = [f"{f.check}: {f.summary} -> {f.remedy}" for f in findings if f.status != "pass"]
    return {"expected": word, "blocked": decision.verdict.block, "lines": [report["reason"], *lines]}


def cured(world: World, case: Case, hook: str, lines: str) -> str:
    """What the hook says after the remedy that it named, or why that could not be done."""
    found = re.search(case.cure, lines)
    if not found:
        return f"no remedy like {case.cure}"
    remedy = found.group(1)
    if remedy.endswith("= advisory"):
        world.write("/etc/go-health-hook.conf", f"[checks]\n{remedy}\n")
    elif remedy.startswith("/"):
        world.write("/etc/go-health-hook.conf", f"[toolchain]\ngoroot = {remedy}\n")
    elif remedy.startswith("remove "):
        place = remedy.split(" ")[1]
        run("umount", "-l", place, check=True)
        world.shell(f"rm -rf {place}")
        world.unpack(place)
    elif remedy.startswith("put one "):
        world.write("/etc/go-health-hook.conf", f"[toolchain]\ngoroot = {world.unpack('/opt/of-root')}\n")
    elif remedy == "judge Go by hand":
        case = case._replace(by=())
    elif remedy.startswith("GOTOOLCHAIN="):
        world.go_env(f"{remedy}\n")
    else:
        done = run("/bin/sh", "-c", remedy)
        if done.returncode:
            return f"{remedy}: {done.stderr}"
    again = judged(hook, case)
    return str(again.get("expected", again)) if not again.get("blocked") else f"blocked after {remedy}"


def main() -> None:
    """Make the case, build there, judge it."""
    case = collected()[sys.argv[1]]
    world = layer(case.program)
    case.make(world)
    works, said = builds(case)
    result = judged(sys.argv[3], case)
    if case.cure and "lines" in result:
        result["cured"] = cured(world, case, sys.argv[3], "\n".join(result["lines"]))
    print(json.dumps({"works": works, "said": said, **result}))


if __name__ == "__main__":
    main()
