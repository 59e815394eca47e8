# SPDX-License-Identifier: GPL-2.0-or-later
"""The Go that a transaction will leave behind, laid out in a private directory before anything is installed.

Which packages those are is found by the files they own or bring and by their source package, never by a list of names.
What comes in is read out of the packages, what stays is seen where it is.
"""

from __future__ import annotations

import os
import stat

from go_health_hook.go.unpack import (
    BLOCK,
    MAX_BYTES,
    OPEN_PLACES,
    PLACES,
    PREFIX,
    TOP,
    CannotLook,
    Writer,
    extract,
    first_part,
    is_wanted,
    make_place,
    remove,
)
from go_health_hook.linux.rpmdb import Ownership, bindings, ownership
from go_health_hook.linux.rpmfile import Package, full_nevra
from go_health_hook.records import Record
from go_health_hook.subject import Subject
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any


class Incoming(Record):
    """What the transaction leaves: where it lies, at which GOROOT it is to be, what its packages are.

    `before` is the version of the package that has the go command now, or empty. `problem` says why it cannot be a
    working toolchain, found from the headers alone. `names` are the incoming packages of that source, those included
    that have no file in GOROOT and may ask for exactly this release. `notes` are for the record. `others` are further
    places to which the transaction brings a Go, each to be laid out by itself. `folders` are GOROOT and the folders
    that its links lead to. `elsewhere` are the links of programs, or of their folders, that lead out of GOROOT and are
    not laid out, and where they lead.
    """

    goroot: str
    ownership: Ownership
    directory: str = ""
    before: str = ""
    stays: list[str] = []
    names: list[str] = []
    problem: str = ""
    notes: list[str] = []
    others: list[str] = []
    folders: list[str] = []
    elsewhere: list[tuple[str, str]] = []

    def subject(self, in_a_view: bool) -> tuple[Subject, str]:
        """The subject to judge and its GOROOT: at the final path in a view of its own, else where it lies."""
        source = f"{self.directory}/root"
        if not in_a_view:
            subject = Subject("incoming")
            goroot = source
        else:
            # Nothing can be mounted on a directory of a read-only /usr that is not there yet.
            goroot = self.goroot if os.path.isdir(self.goroot) else "/tmp/goroot"
            binds = [(source, goroot)]
            binds += [(f"{self.goroot}/{name}", f"{goroot}/{name}") for name in self.stays]
            subject = Subject("incoming", binds=binds)
        subject.ownership = self.ownership
        return subject, goroot


def homes(files: Sequence[str]) -> Iterator[str]:
    """Yield every GOROOT whose go command is among the files.

    A program of that name alone is none: tools, sources or VERSION must be next to it (as for toolchain.is_goroot).
    """
    for name in files:
        home = name[: -len("/bin/go")]
        if name.endswith("/bin/go") and home not in ("", "/usr", "/usr/local", "/opt"):
            parts = (f"{home}/pkg/tool/", f"{home}/src/runtime/", f"{home}/VERSION", f"{home}/go.env")
            if any(other.startswith(parts) for other in files):
                yield home


def brings_go(files: Sequence[str]) -> str:
    """Return the first GOROOT whose go command is among the files, or an empty string."""
    return next(homes(files), "")


def lay_out(paths: Sequence[str], leaving: Iterable[str], goroot: str, in_a_view: bool, token: str) -> Incoming | None:
    """Lay out what the transaction leaves, or return None where it brings nothing of Go.

    `paths` are the incoming packages that may be Go's. `leaving` are the full names, as
    name-epoch:version-release.arch, of what is removed or replaced. `goroot` is the GOROOT to lay out if the packages
    touch it (the live one), or empty. `token` names the private directory, which the caller removes. Raises CannotLook.
    """
    try:
        rpm = bindings()
    except ImportError as error:
        raise CannotLook(f"rpm's Python bindings cannot be loaded: {clean(str(error))}") from None
    os.umask(0o022)  # the caller's may keep nobody out of what nobody is to run
    ts = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
    packages: list[Package] = []
    try:
        for path in paths:
            try:
                packages.append(Package(rpm, ts, path))
            except (OSError, rpm.error) as error:
                raise CannotLook(f"{clean(path)}: {clean(str(error))}") from None
        chosen, home = _choose(packages, goroot)
        if not home:
            return None
        sources = {p.owner.source_name for p in chosen}
        names = sorted({p.owner.name for p in packages if p in chosen or p.owner.source_name in sources})
        others = sorted(set(homes([name for p in packages for name in p.files])) - {home})
        incoming = _compose(rpm, chosen, names, set(leaving), home, in_a_view, token)
        if incoming is not None:
            incoming.others = others
            incoming.folders = [home, *sorted({folder for p in packages for folder in p.aliases})]
        return incoming
    except (OSError, rpm.error) as error:
        raise CannotLook(clean(str(error))) from None
    finally:
        for package in packages:
            package.close()


def _choose(packages: list[Package], goroot: str) -> tuple[list[Package], str]:
    """Those of the packages that are Go's, and the GOROOT they are for: the live one, or else one that they bring."""
    home = goroot
    if not goroot or not any(_has_below(p, goroot) for p in packages):
        home = brings_go([name for p in packages for name in p.files]) or goroot
    aliases: dict[str, str] = {}
    for package in packages:
        aliases.update(_links_out(package, home))
    for package in packages:
        package.see_as(aliases)
    return [p for p in packages if home and any(name.startswith(home + "/") for name in p.files)], home


def _links_out(package: Package, home: str) -> Iterator[tuple[str, str]]:
    """The folders outside GOROOT that links in its top lead to, as some vendors have it with src; and the links."""
    for name, target in zip(package.files, package.header["filelinktos"] or []):
        if target and os.path.dirname(name) == home and os.path.basename(name) in TOP:
            folder = os.path.normpath(os.path.join(home, target))
            if not f"{folder}/".startswith(f"{home}/") and not f"{home}/".startswith(f"{folder.rstrip('/')}/"):
                yield folder, name


def reaches(header: Any, folders: Iterable[str]) -> bool:
    """Return whether a package has files in one of the folders or below it."""
    tops = tuple(f"{folder}/" for folder in folders)
    return any(str(directory).startswith(tops) for directory in header["dirnames"] or [])


def _has_below(package: Package, home: str) -> bool:
    return any(d.startswith(home + "/") for d in package.header["dirnames"] or [])


def _compose(
    rpm: Any, chosen: list[Package], names: list[str], leaving: set[str], home: str, in_a_view: bool, token: str
) -> Incoming | None:
    incoming = Incoming(home, Ownership(), names=names)
    now = ownership("/", home)
    incoming.before = now.go.version if now.go else ""
    gone = leaving | {f"{p.owner.name}.{p.header['arch']}" for p in chosen}
    stays = [
        (owner, header)
        for owner, header in zip(now.packages, now.headers)
        if full_nevra(header) not in gone and f"{owner.name}.{header['arch']}" not in gone
    ]
    if not chosen and len(stays) == len(now.packages):
        return None
    _give_way(chosen, [header for _, header in stays])
    whole = [p for p in chosen if not p.left_out]
    after = incoming.ownership
    after.packages = [p.owner for p in whole] + [owner for owner, _ in stays]
    after.headers = [p.header for p in whole] + [header for _, header in stays]
    go = f"{home}/bin/go"
    after.go = next((o for o, h in zip(after.packages, after.headers) if go in h["filenames"]), None)
    if after.go is None:
        gone_go = f"it removes Go ({now.go.nevra}) and brings none" if now.go else ""
        incoming.problem = gone_go or f"no package of it has {clean(go)}"
        return incoming
    incoming.problem = after.mixed()
    if incoming.problem:
        return incoming
    coming = {name for p in chosen for name in p.files}
    staying = {name for _, header in stays for name in header["filenames"]}
    sources = f"{home}/src/runtime"
    linked = os.path.islink(f"{home}/src") and f"{home}/src" in staying - coming and os.path.isdir(sources)
    if not linked and not any(n.startswith(f"{sources}/") and n.endswith(".go") for n in coming | staying):
        incoming.problem = f"no package of it has the sources of the standard library in {clean(home)}/src"
        return incoming
    _fill(rpm, incoming, chosen, coming, staying, in_a_view, token)
    return incoming


# A file's colour in a header: what kind of ELF file it is. rpm's _prefer_color has this value by default.
ELF64 = 2


def _give_way(packages: Sequence[Package], others: Iterable[Any]) -> None:
    """Have the files of 32 bits left out whose 64-bit twin comes in or stays: rpm installs the latter alone.

    So does rpm's lib/transaction.c (handleOverlappedFiles). `others` are the headers of what stays.
    """
    colours = [{n: c for n, c in zip(p.files, p.header["filecolors"] or []) if c} for p in packages]
    stay = [{n: c for n, c in zip(h["filenames"], h["filecolors"] or []) if c} for h in others]
    preferred = {name for some in (*colours, *stay) for name, colour in some.items() if colour & ELF64}
    for package, own in zip(packages, colours):
        package.leave_out({name for name, colour in own.items() if not colour & ELF64} & preferred)


def _fill(
    rpm: Any,
    incoming: Incoming,
    chosen: list[Package],
    coming: set[str],
    staying: set[str],
    in_a_view: bool,
    token: str,
) -> None:
    home = incoming.goroot
    first = {first_part(name, home) for name in coming} - {""}
    kept = sorted({first_part(name, home) for name in staying} & set(TOP) - first)
    mixed = sorted(n for n in staying if first_part(n, home) in first and is_wanted(n, home) and n not in coming)
    sizes = [
        -(-size // BLOCK) * BLOCK
        for p in chosen
        for name, size, mode in zip(p.files, p.header["filesizes"], p.header["filemodes"])
        if is_wanted(name, home) and stat.S_ISREG(mode & 0xFFFF)
    ]
    need = sum(sizes)
    if need > MAX_BYTES:
        raise CannotLook(f"its packages hold {need >> 20} MiB, more than {MAX_BYTES >> 20}")
    whys = []
    for place in PLACES if in_a_view else OPEN_PLACES:
        incoming.stays, incoming.notes = [], []
        try:
            incoming.directory = make_place(place, need, len(sizes), in_a_view, token)
            _write(rpm, incoming, chosen, mixed, kept, in_a_view)
            return
        except OSError as error:
            whys.append(f"{place}: {clean(str(error.strerror))}")
            remove(f"{place}/{PREFIX}{token}")
    raise CannotLook(f"nowhere to look into them: {'; '.join(whys)}")


def _elsewhere(led_out: Sequence[tuple[str, str]], home: str, coming: set[str]) -> list[tuple[str, str]]:
    """Return the links of programs and of their folders that lead to what is there or comes in, and where they lead.

    A dangling one is the package's fault, and is judged.
    """
    folders = (f"{home}/bin/", f"{home}/pkg/tool/")
    found = []
    for name, target in led_out:
        there = os.path.exists(target) or any(f"{file}/".startswith(f"{target}/") for file in coming)
        if there and (name.startswith(folders) or any(folder.startswith(f"{name}/") for folder in folders)):
            found.append((clean(name), clean(target)))
    return found


def _write(
    rpm: Any, incoming: Incoming, chosen: list[Package], mixed: list[str], kept: list[str], in_a_view: bool
) -> None:
    """Fill the private directory: `mixed` are files that stay next to those that come in, `kept` what stays whole.

    Raises OSError.
    """
    home = incoming.goroot
    writer = Writer(f"{incoming.directory}/root", home, incoming.notes)
    for package in chosen:
        extract(rpm, package, writer)
    incoming.elsewhere = _elsewhere(writer.led_out, home, {name for p in chosen for name in p.header["filenames"]})
    for name in mixed:
        writer.copy(name)
    for name in kept:
        if in_a_view:
            writer.mount_point(name)
            incoming.stays.append(name)
        else:
            os.symlink(f"{home}/{name}", f"{writer.top}/{name}")
