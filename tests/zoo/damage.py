# SPDX-License-Identifier: GPL-2.0-or-later
"""Toolchains that are damaged or incomplete."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.zoo.case import ALL, BROKEN, HEALTHY, SOME, case

if TYPE_CHECKING:
    from tests.zoo.world import World


def tool(goroot: Path, name: str) -> Path:
    return next(goroot.glob(f"pkg/tool/linux_*/{name}"))


@case("a power cut during an update (openwrt, EL)", BROKEN, False, SOME, says=("cut short",))
def go_cut_short(world: World) -> None:
    go = world.unpack() / "bin/go"
    world.write(go, go.read_bytes()[:5_000_000], 0o755)


@case("a full disk during an update: empty files", BROKEN, False, SOME, says=("is empty",))
def go_is_empty(world: World) -> None:
    world.write(world.unpack() / "bin/go", "", 0o755)


@case("a disk that lost blocks: zeros in the middle", BROKEN, False)
def compiler_with_zeros_inside(world: World) -> None:
    path = tool(world.unpack(), "compile")
    data = bytearray(path.read_bytes())
    data[0x1000 : len(data) // 2] = bytes(len(data) // 2 - 0x1000)
    world.write(path, bytes(data), 0o755)


@case("https://github.com/openwrt/packages/issues/13869", BROKEN, False, SOME)
def sources_are_missing(world: World) -> None:
    shutil.rmtree(world.unpack() / "src")


@case("https://src.fedoraproject.org/rpms/golang: golang requires nothing of golang-src", BROKEN, False)
def fedora_without_sources(world: World) -> None:
    shutil.rmtree(world.fedora() / "src")


@case("https://github.com/golang/go/issues/11516", BROKEN, False)
def one_package_is_missing(world: World) -> None:
    shutil.rmtree(world.unpack() / "src/internal/abi")


@case("an update that was interrupted: a compiler is missing", BROKEN, False)
def compiler_is_missing(world: World) -> None:
    tool(world.unpack(), "compile").unlink()


@case("an update that was interrupted: the linker is missing", BROKEN, False)
def linker_is_missing(world: World) -> None:
    tool(world.unpack(), "link").unlink()


@case("an archive for another machine", BROKEN, False, says=("arm64",))
def archive_for_another_machine(world: World) -> None:
    goroot = world.unpack()
    for path in [goroot / "bin/go", goroot / "bin/gofmt", *goroot.glob("pkg/tool/linux_*/*")]:
        data = bytearray(path.read_bytes())
        data[18:20] = (183).to_bytes(2, "little")
        world.write(path, bytes(data), 0o755)


@case("permissions lost on the way (FAT, zip): go is not executable", BROKEN, False, says=("not executable",))
def go_is_not_executable(world: World) -> None:
    (world.unpack() / "bin/go").chmod(0o644)


@case("permissions lost on the way (FAT, zip): the tools are not executable", BROKEN, False, says=("not executable",))
def tools_are_not_executable(world: World) -> None:
    for path in world.unpack().glob("pkg/tool/linux_*/*"):
        path.chmod(0o644)


@case("a source file cut short", BROKEN, False, program="crypto/tls")
def source_cut_short(world: World) -> None:
    path = world.unpack() / "src/crypto/tls/conn.go"
    world.write(path, path.read_bytes()[:20_000])


@case("a full disk during an update: VERSION is empty, which nothing but the archive's tools reads", HEALTHY, True)
def version_file_is_empty(world: World) -> None:
    world.write(world.unpack() / "VERSION", "")


@case("a file system that lost a file of fmt", BROKEN, False, ALL, says=("src is not whole", "undefined: "))
def source_is_missing(world: World) -> None:
    (world.unpack() / "src/fmt/print.go").unlink()


@case("a file system that lost a file of crypto/tls", BROKEN, False, SOME, program="crypto/tls",
      says=("src is not whole", "undefined: Conn"))  # fmt: skip
def source_of_a_module_is_missing(world: World) -> None:
    (world.unpack() / "src/crypto/tls/conn.go").unlink()


@case("a power cut: the end of a file is zeros", BROKEN, False, SOME, says=("src is not whole",))
def source_ends_in_zeros(world: World) -> None:
    path = world.unpack() / "src/fmt/scan.go"
    data = path.read_bytes()
    world.write(path, data[:4096] + bytes(len(data) - 4096))


@case("a full disk: a file of fmt was cut short", BROKEN, False, SOME, says=("src is not whole", "syntax error"))
def source_behind_the_modules_cut_short(world: World) -> None:
    path = world.unpack() / "src/fmt/print.go"
    world.write(path, path.read_bytes()[:15_000])


@case("https://github.com/golang/go/issues/68107: a trimmed go that was moved away from its tree", BROKEN, False)
def go_moved_away_from_its_tree(world: World) -> None:
    goroot = world.unpack()
    shutil.move(str(goroot / "bin"), "/opt/gobin")
    world.link("/usr/local/go/bin", "/opt/gobin")


@case("https://docs.fedoraproject.org alternatives(8): the link was lost", BROKEN, False, path="/usr/bin:/bin")
def fedoras_alternative_leads_nowhere(world: World) -> None:
    world.fedora()
    Path("/etc/alternatives/go").unlink()


@case("a loop of links", BROKEN, False, path="/usr/bin:/bin")
def fedoras_alternative_leads_to_itself(world: World) -> None:
    world.fedora()
    world.link("/etc/alternatives/go", "/usr/bin/go")


@case("https://pkg.go.dev/cmd/gofmt: gofmt is not what builds programs", HEALTHY, True)
def gofmt_is_missing(world: World) -> None:
    (world.unpack() / "bin/gofmt").unlink()


@case("packages without vet, cover and cgo", HEALTHY, True)
def tools_that_build_nothing_are_missing(world: World) -> None:
    goroot = world.unpack()
    for name in ("vet", "cover", "cgo"):
        tool(goroot, name).unlink(missing_ok=True)


@case("minimal containers: lib, api, misc, doc and test are gone", HEALTHY, True)
def only_what_builds(world: World) -> None:
    goroot = world.unpack()
    for name in ("lib", "api", "misc", "doc", "test", "pkg/include"):
        shutil.rmtree(goroot / name, ignore_errors=True)
    for name in ("LICENSE", "PATENTS", "README.md", "SECURITY.md", "CONTRIBUTING.md", "codereview.cfg"):
        (goroot / name).unlink(missing_ok=True)


@case("[toolchain] goroot of a folder that is gone", BROKEN, False, path="/srv/ci/go/bin:/usr/bin:/bin")
def goroot_of_the_settings_is_gone(world: World) -> None:
    world.write("/etc/go-health-hook.conf", "[toolchain]\ngoroot = /srv/ci/go\n")
