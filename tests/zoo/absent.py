# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines on which there is no toolchain to judge, although something may answer to `go`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.zoo.case import NAMED, NOTHING, case

if TYPE_CHECKING:
    from tests.zoo.world import World

UNTRUE = ("no Go toolchain is installed: nothing",)


@case("most machines", NOTHING, False, says=("no Go toolchain is installed",))
def no_go_at_all(world: World) -> None:
    pass


@case(
    "https://go.dev/doc/manage-install: a link left behind",
    NOTHING,
    False,
    says=("/usr/local/bin/go leads to",),
    cure=r": (rm /usr/local/bin/go)",
    cured=NOTHING,
)
def link_left_behind(world: World) -> None:
    world.link("/usr/local/bin/go", "/usr/local/go/bin/go")


@case("alternatives(8) after `dnf remove golang` went wrong", NOTHING, False)
def alternatives_link_left_behind(world: World) -> None:
    world.link("/usr/bin/go", "/etc/alternatives/go")
    world.link("/etc/alternatives/go", "/usr/lib/golang/bin/go")


@case("a link left behind that leads in a circle", NOTHING, False)
def link_left_behind_in_a_circle(world: World) -> None:
    world.link("/usr/local/bin/go", "go")


@case("files that no package owned", NOTHING, False)
def remains_of_a_package(world: World) -> None:
    world.write("/usr/lib/golang/pkg/linux_amd64/fmt.a", "!<arch>\n")
    world.write("/usr/lib/golang/src/local.patch", "")


@case("https://go.dev/doc/install/source: sources that were never built", NOTHING, False)
def sources_that_were_never_built(world: World) -> None:
    world.unpack()
    world.shell("rm -r /usr/local/go/bin /usr/local/go/pkg")


@case("https://gcc.gnu.org/onlinedocs/gccgo/", NOTHING, False, says=("gcc's go",), never=UNTRUE)
def gccs_go(world: World) -> None:
    world.write("/usr/bin/go-13", b"\x7fELF\x02\x01\x01" + bytes(100), 0o755)
    world.link("/usr/bin/go", "go-13")


@case(
    "a wrapper script for all users",
    NOTHING,
    True,
    says=("starts Go in /srv/go", "[toolchain] goroot"),
    never=UNTRUE,
    cure=NAMED,
)
def wrapper_script(world: World) -> None:
    world.unpack("/srv/go")
    world.write("/usr/local/bin/go", '#!/bin/sh\nexport GOFLAGS=-buildvcs=false\nexec /srv/go/bin/go "$@"\n', 0o755)


@case("https://github.com/asdf-community/asdf-golang/issues/23", NOTHING, True, says=("a script",), never=UNTRUE)
def asdf_shim(world: World) -> None:
    world.unpack("/home/alice/.asdf/installs/golang/1.27.3/go")
    shim = '#!/usr/bin/env bash\n# asdf-plugin: golang 1.27.3\nexec /opt/asdf/exec go "$@"\n'
    world.write("/opt/asdf/exec", '#!/bin/sh\nshift\nexec ~/.asdf/installs/golang/1.27.3/go/bin/go "$@"\n', 0o755)
    world.write("/usr/local/bin/go", shim, 0o755)
    world.shell("chown -R 1000:1000 /home/alice")


@case("https://snapcraft.io/go", NOTHING, True, says=("snap",), never=UNTRUE, path="/usr/local/bin:/usr/bin:/bin")
def snaps_go(world: World) -> None:
    world.unpack("/snap/go/current")
    world.write("/usr/bin/snap", '#!/bin/sh\nexec /snap/go/current/bin/go "$@"\n', 0o755)
    world.link("/usr/local/bin/go", "/usr/bin/snap")


@case("a compiled launcher", NOTHING, True, says=("lies in no GOROOT",), never=UNTRUE)
def compiled_launcher(world: World) -> None:
    goroot = world.unpack("/srv/go")
    main = "package main\n"
    main += 'import ("os"; "syscall")\nfunc main() { syscall.Exec("/srv/go/bin/go", os.Args, os.Environ()) }\n'
    source = world.write("/srv/launcher/main.go", main)
    environment = "setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=/home/alice GOCACHE=/mnt/cache"
    world.shell(f"{environment} GOTOOLCHAIN=local {goroot}/bin/go build -o /mnt/built/launcher {source}")
    world.shell("cp /mnt/built/launcher /usr/local/bin/go")


@case(
    "a Go in /opt that profile.d puts on the path",
    NOTHING,
    True,
    path="/opt/go/bin:/usr/bin:/bin",
    says=("/opt/go is not judged",),
    never=UNTRUE,
    cure=NAMED,
)
def archive_in_opt_by_profile(world: World) -> None:
    world.unpack("/opt/go")
    world.write("/etc/profile.d/go.sh", "PATH=$PATH:/opt/go/bin\n")


@case("https://docs.brew.sh/Homebrew-on-Linux", NOTHING, True, says=("linuxbrew",), never=UNTRUE,
      path="/home/linuxbrew/.linuxbrew/bin:/usr/bin:/bin")  # fmt: skip
def homebrew_in_its_own_prefix(world: World) -> None:
    world.unpack("/home/linuxbrew/.linuxbrew/opt/go/libexec")
    world.link("/home/linuxbrew/.linuxbrew/bin/go", "../opt/go/libexec/bin/go")


@case("https://github.com/moovweb/gvm: in a home, for its owner alone", NOTHING, True,
      path="/home/alice/.gvm/gos/go1.27.3/bin:/usr/bin:/bin")  # fmt: skip
def gvm_in_a_home(world: World) -> None:
    world.unpack("/home/alice/.gvm/gos/go1.27.3")
    world.shell("chown -R 1000:1000 /home/alice; chmod 0700 /home/alice")


@case("https://access.redhat.com: go-toolset of EL 7, in a collection", NOTHING, True, says=("not judged",),
      path="/opt/rh/go-toolset-1.27/root/usr/lib/golang/bin:/usr/bin:/bin")  # fmt: skip
def software_collection(world: World) -> None:
    world.unpack("/opt/rh/go-toolset-1.27/root/usr/lib/golang")


@case("a folder called go that is no Go", NOTHING, False)
def folder_called_go(world: World) -> None:
    world.write("/opt/go/README", "our Go programs\n")
    world.write("/opt/golem/bin/go", "#!/bin/sh\n", 0o755)
