# SPDX-License-Identifier: GPL-2.0-or-later
"""Healthy toolchains in layouts that differ from ours."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.zoo.case import ALL, HEALTHY, NOT_JUDGED, SOME, case
from tests.zoo.world import SCRATCH, run

if TYPE_CHECKING:
    from tests.zoo.world import World


@case("https://go.dev/doc/install", HEALTHY, True, ALL)
def archive_in_usr_local(world: World) -> None:
    world.unpack()


@case("https://src.fedoraproject.org/rpms/golang", HEALTHY, True, ALL, path="/usr/bin:/bin")
def fedora_with_alternatives(world: World) -> None:
    world.fedora()


@case("https://src.fedoraproject.org/rpms/golang: VERSION is %doc, missing under tsflags=nodocs", HEALTHY, True, SOME)
def fedora_without_documentation(world: World) -> None:
    goroot = world.fedora()
    (goroot / "VERSION").unlink()
    for name in ("LICENSE", "README.md", "doc", "api", "misc", "test"):
        path = goroot / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@case("https://src.fedoraproject.org/rpms/golang: tests and testdata are packages of their own", HEALTHY, True, SOME)
def fedora_without_tests(world: World) -> None:
    goroot = world.fedora()
    world.shell(f"find {goroot}/src '(' -name '*_test.go' -o -name '*.syso' ')' -delete; rm -rf {goroot}/src/cmd")
    world.shell(f"find {goroot}/src -depth -name testdata -exec rm -r {{}} +")


@case("EL 9: /usr/bin/go is a direct link", HEALTHY, True, path="/usr/bin:/bin")
def enterprise_linux_with_a_direct_link(world: World) -> None:
    world.unpack("/usr/lib/golang")
    world.link("/usr/bin/go", "../lib/golang/bin/go")


@case("https://packages.debian.org/golang-1.24-go", HEALTHY, True, path="/usr/bin:/bin")
def debian_split_between_lib_and_share(world: World) -> None:
    world.unpack("/usr/lib/go-1.27")
    for name in ("src", "misc", "test", "api"):
        if Path(f"/usr/lib/go-1.27/{name}").exists():
            world.shell(f"mkdir -p /usr/share/go-1.27; cp -a /usr/lib/go-1.27/{name} /usr/share/go-1.27/")
            shutil.rmtree(f"/usr/lib/go-1.27/{name}")
            world.link(f"/usr/lib/go-1.27/{name}", f"../../share/go-1.27/{name}")
    world.link("/usr/lib/go", "go-1.27")
    world.link("/usr/bin/go", "../lib/go/bin/go")


@case("https://build.opensuse.org/package/show/devel:languages:go/go1.24", HEALTHY, True, path="/usr/bin:/bin")
def opensuse_with_sources_in_share(world: World) -> None:
    world.unpack("/usr/lib64/go/1.27")
    world.shell("mkdir -p /usr/share/go/1.27; cp -a /usr/lib64/go/1.27/src /usr/share/go/1.27/")
    shutil.rmtree("/usr/lib64/go/1.27/src")
    world.link("/usr/lib64/go/1.27/src", "/usr/share/go/1.27/src")
    world.link("/etc/alternatives/go", "/usr/lib64/go/1.27/bin/go")
    world.link("/usr/bin/go", "/etc/alternatives/go")


@case("https://docs.brew.sh/Homebrew-on-Linux, linked for all users", HEALTHY, True)
def homebrew_cellar_linked_for_all(world: World) -> None:
    cellar = "/opt/linuxbrew/Cellar/go/1.27.3"
    world.unpack(f"{cellar}/libexec")
    world.link(f"{cellar}/bin/go", "../libexec/bin/go")
    world.link("/usr/local/bin/go", f"{cellar}/bin/go")


@case("https://github.com/NixOS/nixpkgs: pkgs/development/compilers/go", HEALTHY, True)
def nix_store_read_only_with_times_of_one(world: World) -> None:
    store = "/nix/store/abcdefghijklmnopqrstuvwxyz012345-go-1.27.3"
    world.unpack(f"{store}/share/go")
    world.link(f"{store}/bin", "share/go/bin")
    world.link("/usr/local/bin/go", f"{store}/bin/go")
    world.shell(f"find {store} -type f -perm /111 -exec chmod 0555 {{}} +; find {store} -exec touch -h -d @1 {{}} +")


@case("https://www.gnu.org/software/stow/", HEALTHY, True)
def stow_links_the_directory(world: World) -> None:
    world.unpack("/usr/local/stow/go-1.27.3")
    world.link("/usr/local/go", "stow/go-1.27.3")
    world.link("/usr/local/bin/go", "../go/bin/go")


@case("https://www.gnu.org/software/stow/ --no-folding: every file is a link", HEALTHY, True)
def symlink_farm(world: World) -> None:
    world.unpack("/opt/pkg/go-1.27.3")
    world.shell("cp -as /opt/pkg/go-1.27.3 /usr/local/go")


@case("https://github.com/stefanmaric/g and many blogs: several releases, one current", HEALTHY, True, SOME)
def several_releases_and_a_current_link(world: World) -> None:
    world.unpack("/opt/go/versions/1.21.13", "1.21.13")
    world.unpack(f"/opt/go/versions/now-{world.version}", world.version)
    world.link("/opt/go/current", f"versions/now-{world.version}")
    world.link("/usr/local/bin/go", "/opt/go/current/bin/go")


@case("https://github.com/golang/go/issues/33208: a second Go from the distribution", HEALTHY, True)
def archive_before_the_distributions(world: World) -> None:
    world.fedora()
    world.unpack("/usr/local/go", "1.25.5")
    world.link("/usr/local/bin/go", "/usr/local/go/bin/go")


@case("a folder that a person named", HEALTHY, True)
def goroot_with_blanks_quotes_and_unicode(world: World) -> None:
    world.unpack("/opt/Go \u00e4 'neu' \"1.27\"")
    world.link("/usr/local/bin/go", "/opt/Go \u00e4 'neu' \"1.27\"/bin/go")


@case("btrfs subvolumes and bind mounts: GOROOT is a mount point", HEALTHY, True)
def goroot_is_a_bind_mount(world: World) -> None:
    world.unpack("/srv/toolchains/go")
    Path("/usr/local/go").mkdir()
    run("mount", "--bind", "/srv/toolchains/go", "/usr/local/go", check=True)


@case("image systems: /usr cannot be written to", HEALTHY, True, path="/usr/bin:/bin")
def usr_is_read_only(world: World) -> None:
    world.fedora()
    run("mount", "-o", "remount,ro,bind", "/usr", check=True)
    run("mount", "-o", "remount,ro,bind", "/usr/lib/golang", check=True)


@case("hardened servers: /tmp is a noexec tmpfs", HEALTHY, True)
def tmp_is_noexec(world: World) -> None:
    world.unpack()
    run("mount", "-t", "tmpfs", "-o", "noexec,nosuid,nodev,mode=1777", "zoo", "/tmp", check=True)


@case("ostree sets every time to 0 or 1", HEALTHY, True, ALL)
def all_times_are_zero(world: World) -> None:
    goroot = world.unpack()
    world.shell(f"find {goroot} -exec touch -h -d @0 {{}} +")


@case("cp without -p, git checkouts: times of no release", HEALTHY, True)
def times_of_a_copy(world: World) -> None:
    world.shell(f"mkdir -p /usr/local/go && cd {world.go()} && tar -c . | tar -xm -C /usr/local/go")


@case("clocks that were wrong: times in the future", HEALTHY, True)
def times_in_the_future(world: World) -> None:
    goroot = world.unpack()
    world.shell(f"find {goroot}/src/runtime {goroot}/bin -exec touch -h -d 2040-01-01 {{}} +")


@case("https://src.fedoraproject.org/rpms/golang: a distribution's patch adds a file", HEALTHY, True, ALL)
def vendors_patch_adds_a_file_to_the_runtime(world: World) -> None:
    goroot = world.unpack()
    world.write(goroot / "src/runtime/zz_vendor.go", "package runtime\n\nfunc vendorPatch() bool { return true }\n")
    world.write(goroot / "src/crypto/tls/zz_vendor.go", "package tls\n\nvar vendorBuild = true\n")
    world.write(goroot / "src/crypto/tls/zz_plan9.go", "//go:build plan9\n\npackage tls\n\nvar vendorBuild = false\n")


@case("https://src.fedoraproject.org/rpms/golang: *.orig, *.rej and editors' files left among sources", HEALTHY, True)
def leftovers_of_patches(world: World) -> None:
    goroot = world.unpack()
    for name in ("proc.go.orig", "proc.go.rej", "proc.go~", ".proc.go.swp", "#proc.go#", "_old_proc.go", "x_test.go"):
        text = "package runtime\n" if name.endswith("_test.go") else (goroot / "src/runtime/proc.go").read_bytes()
        world.write(goroot / "src/runtime" / name, text)


@case("sources in which a comment or a string looks like a declaration twice", HEALTHY, True)
def text_that_looks_like_declarations(world: World) -> None:
    goroot = world.unpack()
    look = (
        "package runtime\n\n/*\nfunc newproc() {}\n*/\n\nconst vendorText = `\nfunc newproc1() {}\ntype g struct{}\n`\n"
    )
    world.write(goroot / "src/runtime/zz_text.go", look)


@case("an archive that a person unpacked over the same release", HEALTHY, True)
def archive_over_the_same_release(world: World) -> None:
    goroot = world.unpack()
    world.shell(f"cp -a --remove-destination {world.go()}/. {goroot}/")


@case("https://go.dev/dl: archives before 1.20 brought compiled packages, which lie there still", HEALTHY, True)
def compiled_packages_of_long_ago(world: World) -> None:
    goroot = world.unpack()
    world.write(goroot / "pkg/linux_amd64/fmt.a", "!<arch>\nold\n")
    world.write(goroot / "pkg/linux_amd64_race/fmt.a", "!<arch>\nold\n")


@case("cross-compilers: tools for another machine next to ours", HEALTHY, True)
def tools_for_another_machine_too(world: World) -> None:
    goroot = world.unpack()
    shutil.copytree(goroot / "pkg/tool/linux_amd64", goroot / "pkg/tool/linux_arm64")
    for tool in (goroot / "pkg/tool/linux_arm64").iterdir():
        data = bytearray(tool.read_bytes())
        data[18:20] = (183).to_bytes(2, "little")
        tool.write_bytes(data)


@case("https://go.dev/dl: gofmt is not linked in every installation", HEALTHY, True, path="/opt/only:/usr/bin:/bin")
def reached_by_a_link_of_its_own(world: World) -> None:
    world.unpack()
    world.link("/opt/only/go", "/usr/local/go/bin/go")


@case("https://github.com/mvdan/gofumpt in the place of gofmt, built with another Go", HEALTHY, True)
def other_formatter_in_the_place_of_gofmt(world: World) -> None:
    goroot = world.unpack()
    other = world.unpack("/opt/go1.25.5", "1.25.5")
    world.write("/srv/gofumpt/go.mod", "module mvdan.cc/gofumpt\n\ngo 1.21\n")
    world.write(
        "/srv/gofumpt/main.go", 'package main\n\nimport ("io"; "os")\nfunc main() { io.Copy(os.Stdout, os.Stdin) }\n'
    )
    environment = "setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=/home/alice GOCACHE=/mnt/cache"
    build = f"{environment} GOTOOLCHAIN=local {other}/bin/go build -o /mnt/built/gofumpt ."
    world.shell(f"cd /srv/gofumpt; {build}; cp /mnt/built/gofumpt {goroot}/bin/gofmt")


@case("https://nixos.org/manual/nixpkgs: makeWrapper puts a script in the place of the go command", HEALTHY, True)
def wrapper_in_the_place_of_go(world: World) -> None:
    goroot = world.unpack()
    (goroot / "bin/go").rename(goroot / "bin/.go-wrapped")
    script = f'#!/bin/sh\nexport GOROOT={goroot}\nexec {goroot}/bin/.go-wrapped "$@"\n'
    world.write(goroot / "bin/go", script, 0o755)


@case("a wrapper in the place of the go command that prints a notice", HEALTHY, True, SOME)
def wrapper_that_prints_a_notice(world: World) -> None:
    wrapper_in_the_place_of_go(world)
    go = Path("/usr/local/go/bin/go")
    world.write(go, go.read_text().replace("export", "echo 'Go is looked after by IT' >&2\nexport", 1), 0o755)


@case("https://docs.brew.sh/Homebrew-on-Linux: programs are started through a loader outside /usr", NOT_JUDGED, True,
      says=("worked at a second try",))  # fmt: skip
def interpreter_outside_usr(world: World) -> None:
    wrapper_in_the_place_of_go(world)
    world.shell("mkdir -p /opt/linuxbrew/bin; cp /bin/sh /opt/linuxbrew/bin/sh")
    go = Path("/usr/local/go/bin/go")
    world.write(go, go.read_text().replace("#!/bin/sh", "#!/opt/linuxbrew/bin/sh", 1), 0o755)


@case("a disk that was full: the tools were moved and linked", HEALTHY, True)
def tools_linked_from_elsewhere(world: World) -> None:
    goroot = world.unpack()
    world.shell(f"mkdir -p /opt/big; mv {goroot}/pkg/tool/linux_amd64 /opt/big/tools")
    world.link(f"{goroot}/pkg/tool/linux_amd64", "/opt/big/tools")


@case("a wrapper in the place of the go command that reads settings of the house", NOT_JUDGED, True,
      says=("the check's view has no /etc/golang/house.sh",))  # fmt: skip
def wrapper_that_reads_settings(world: World) -> None:
    wrapper_in_the_place_of_go(world)
    world.write("/etc/golang/house.sh", "export GOFLAGS=-buildvcs=false\n")
    go = Path("/usr/local/go/bin/go")
    world.write(go, go.read_text().replace("export", ". /etc/golang/house.sh\nexport", 1), 0o755)


@case("a wrapper in the place of the go command that writes a log", HEALTHY, True)
def wrapper_that_writes_a_log(world: World) -> None:
    wrapper_in_the_place_of_go(world)
    world.shell("mkdir -m 1777 /srv/log")
    go = Path("/usr/local/go/bin/go")
    world.write(go, go.read_text().replace("export", "echo used >>/srv/log/$(id -u)\nexport", 1), 0o755)


@case("https://github.com/golang/go/issues/60983: GOROOT in /opt", HEALTHY, True)
def archive_in_opt_with_a_link(world: World) -> None:
    world.unpack("/opt/go")
    world.link("/usr/local/bin/go", "/opt/go/bin/go")


@case("[toolchain] goroot: a Go that no search path leads to", HEALTHY, True, path="/srv/ci/go/bin:/usr/bin:/bin")
def goroot_named_by_the_settings(world: World) -> None:
    world.unpack("/srv/ci/go")
    world.write("/etc/go-health-hook.conf", "[toolchain]\ngoroot = /srv/ci/go\n")


@case("https://go.dev/doc/manage-install: module cache's toolchain, named by the settings", HEALTHY, True, path="/bin")
def toolchain_of_the_module_cache(world: World) -> None:
    place = f"/srv/mod/golang.org/toolchain@v0.0.1-go{world.version}.linux-amd64"
    world.unpack(place)
    world.shell(f"chmod -R a-w '{place}'")
    world.link("/usr/bin/go", f"{place}/bin/go")
    world.write("/etc/go-health-hook.conf", f"[toolchain]\ngoroot = {place}\n")


@case("/usr/sbin and /usr/bin are one directory on Fedora 42", HEALTHY, True, path="/usr/bin:/bin")
def go_in_sbin_by_a_merged_directory(world: World) -> None:
    world.unpack("/usr/lib/golang")
    world.link("/usr/sbin/go", "/usr/lib/golang/bin/go")
    world.link("/usr/bin/go", "/usr/lib/golang/bin/go")


@case("https://github.com/golang/go/issues/34214: GOROOT in the environment of another Go", HEALTHY, True)
def goroot_of_the_environment_is_roots_alone(world: World) -> None:
    world.unpack()
    world.write("/etc/profile.d/go.sh", "export GOROOT=/nonexistent\n")


@case("a FIFO, a socket and a broken link lie in GOROOT", HEALTHY, True)
def odd_files_below_goroot(world: World) -> None:
    goroot = world.unpack()
    world.shell(f"mkfifo {goroot}/fifo {goroot}/src/runtime/notes.txt; ln -s nowhere {goroot}/src/crypto/tls/README")


@case("a machine with little in /etc: no passwd entry for nobody", HEALTHY, True)
def no_user_called_nobody(world: World) -> None:
    world.unpack()
    world.shell("sed -i /^nobody:/d /etc/passwd; sed -i -e /^nogroup:/d -e /^nobody:/d /etc/group")


@case("containers: cgroups are not mounted, as in `ip netns exec` (iproute2, lib/namespace.c)", HEALTHY, True)
def sys_mounted_again(world: World) -> None:
    world.unpack()
    (SCRATCH / "sys").mkdir()
    run("umount", "-l", "/sys", check=True)
    run("mount", "-t", "sysfs", "zoo", "/sys", check=True)


@case("https://github.com/microsoft/go/pull/946: a vendor's name behind the version", HEALTHY, True)
def vendors_name_in_the_version_file(world: World) -> None:
    goroot = world.unpack()
    world.write(goroot / "VERSION", f"go{world.version} (Red Hat {world.version}-1.el10)\ntime 2026-10-19T22:20:36Z\n")
