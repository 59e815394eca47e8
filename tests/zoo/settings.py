# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in GOROOT/go.env: settings of distributions and admins, and ones that go refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.zoo.case import ALL, BROKEN, HEALTHY, NEWEST, SOME, case

if TYPE_CHECKING:
    from tests.zoo.world import World

STOCK = "GOPROXY=https://proxy.example.com,direct\nGOSUMDB=sum.golang.org\n"
TOOLCHAIN = "https://go.dev/doc/toolchain"


@case("https://src.fedoraproject.org/rpms/golang: go.env", HEALTHY, True, SOME)
def goenv_of_fedora(world: World) -> None:
    world.unpack()
    world.go_env("GOPROXY=https://proxy.example.com,direct\nGOSUMDB=sum.golang.org\nGOTOOLCHAIN=local\n")


@case("https://github.com/chainguard-images/images/pull/1239", HEALTHY, True, SOME)
def goenv_local_plus_auto(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=local+auto\n")


@case("https://github.com/chimera-linux/cports/pull/355", HEALTHY, True)
def goenv_path(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=path\n")


@case(TOOLCHAIN, HEALTHY, True, ALL)
def goenv_names_its_own_release(world: World) -> None:
    world.unpack()
    world.go_env(f"GOTOOLCHAIN=go{world.version}+auto\n")


@case(TOOLCHAIN, HEALTHY, True)
def goenv_is_empty(world: World) -> None:
    world.unpack()
    world.go_env("")


@case("cmd/go/internal/cfg: what stands first counts", HEALTHY, True)
def goenv_says_it_twice(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=local\nGOTOOLCHAIN=nonsense\n")


@case("cmd/go/internal/cfg: a line that does not begin with a capital is none", HEALTHY, True)
def goenv_with_indented_and_commented_nonsense(world: World) -> None:
    world.unpack()
    world.go_env("# GOTOOLCHAIN=x\n GOTOOLCHAIN=nonsense\nnonsense\n=x\n\r\nGOTOOLCHAIN=local")


@case("https://pkg.go.dev/cmd/go: GOCACHEPROG, a helper of the users'", HEALTHY, True, NEWEST)
def goenv_with_a_cache_helper(world: World) -> None:
    world.unpack()
    helper = "#!/usr/bin/python3\nimport sys, json\n" + CACHER
    world.write("/opt/tools/cacher", helper, 0o755)
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGOCACHEPROG=/opt/tools/cacher\n")


# Answers that it knows nothing and keeps what it is given in a folder of the user's (cmd/go/internal/cacheprog).
CACHER = """
import base64, os, tempfile
top = tempfile.mkdtemp()
out = sys.stdout
def say(**what):
    out.write(json.dumps(what) + "\\n"); out.flush()
say(ID=0, KnownCommands=["get", "put", "close"])
while True:
    line = sys.stdin.readline()
    if not line: break
    if not line.strip(): continue
    ask = json.loads(line)
    if ask["Command"] == "put":
        line = "\\n" if ask.get("BodySize") else '""'
        while not line.strip(): line = sys.stdin.readline()
        body = base64.b64decode(json.loads(line))
        path = os.path.join(top, str(ask["ID"])); open(path, "wb").write(body)
        say(ID=ask["ID"], DiskPath=path)
    elif ask["Command"] == "get": say(ID=ask["ID"], Miss=True)
    else:
        say(ID=ask["ID"]); break
"""


@case("flags that an admin set for all users", HEALTHY, True)
def goenv_with_flags(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGOFLAGS=-trimpath -buildvcs=false -mod=mod\n")


@case("https://go.dev/doc/security/fips140: a frozen module, which the go command unpacks", HEALTHY, True,
      ("1.24.11", "1.25.5", "1.27.3"))  # fmt: skip
def goenv_with_a_fips_module(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGOFIPS140=v1.0.0\n")


@case("a configuration file kept in /etc", BROKEN, False, says=("invalid GOTOOLCHAIN",))
def goenv_linked_from_etc_with_a_carriage_return(world: World) -> None:
    world.unpack()
    world.link("/usr/local/go/go.env", world.write("/etc/golang/go.env", "GOTOOLCHAIN=local\r\n"))


@case("https://go.dev/doc/godebug", HEALTHY, True)
def goenv_with_godebug_and_private_modules(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGODEBUG=netdns=go\nGOPRIVATE=corp.example\nGONOSUMDB=corp.example\n")


@case("https://pkg.go.dev/internal/goexperiment", HEALTHY, True)
def goenv_with_an_experiment(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGOEXPERIMENT=synctest,nodwarf5\n".replace("synctest,", ""))


@case("https://go.dev/wiki/MinimumRequirements: GOAMD64 of a fleet", HEALTHY, True)
def goenv_with_a_level_of_the_processor(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGOAMD64=v2\nCC=nonsense\nCGO_ENABLED=0\n")


@case("https://go.dev/ref/mod: proxies of one's own", HEALTHY, True)
def goenv_with_a_proxy_of_the_house(world: World) -> None:
    world.unpack()
    world.go_env("GOPROXY=https://goproxy.cn,https://corp.example/go|off\nGOSUMDB=off\nGOTOOLCHAIN=local\n")


@case("https://pkg.go.dev/cmd/go: GO111MODULE", HEALTHY, True)
def goenv_without_modules(world: World) -> None:
    world.unpack()
    world.go_env("GO111MODULE=off\nGOTOOLCHAIN=local\nGOPATH=/srv/gopath\n")


@case(f"{TOOLCHAIN}: another release, which is on the search path", HEALTHY, True, SOME)
def goenv_names_another_release_that_is_here(world: World) -> None:
    world.unpack()
    world.unpack("/opt/go1.24.11", "1.24.11")
    world.link("/usr/local/bin/go1.24.11", "/opt/go1.24.11/bin/go")
    world.go_env(f"{STOCK}GOTOOLCHAIN=go1.24.11+path\n")


@case("https://pkg.go.dev/cmd/go: GOFLAGS with a file of the house", HEALTHY, True)
def goenv_with_an_overlay(world: World) -> None:
    world.unpack()
    world.write("/etc/golang/overlay.json", '{"Replace":{}}\n')
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGOFLAGS=-overlay=/etc/golang/overlay.json\n")


@case("https://pkg.go.dev/cmd/go: GOTMPDIR of a disk that is not mounted", HEALTHY, False,
      says=("GOTMPDIR=/srv/scratch",), cure=r"(mkdir -m 1777 /srv/scratch)")  # fmt: skip
def goenv_with_a_temporary_directory_that_is_missing(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGOTMPDIR=/srv/scratch\n")


@case("https://github.com/golang/go/issues/57179: GOROOT/go.env is missing", HEALTHY, True)
def goenv_is_missing(world: World) -> None:
    (world.unpack() / "go.env").unlink()


@case(
    "an editor on Windows: carriage returns",
    BROKEN,
    False,
    ALL,
    says=("invalid GOTOOLCHAIN",),
    cure=r"carriage returns: (sed -i [^\n]+)",
)
def goenv_with_carriage_returns(world: World) -> None:
    world.unpack()
    world.go_env((STOCK + "GOTOOLCHAIN=auto\n").replace("\n", "\r\n"))


@case("an editor on Windows: carriage returns behind `local`", BROKEN, False, ALL, says=("invalid GOTOOLCHAIN",))
def goenv_local_with_a_carriage_return(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=local\r\n")


@case(f"{TOOLCHAIN}: quotes as in a shell", BROKEN, False, SOME, says=("invalid GOTOOLCHAIN",))
def goenv_with_quotes(world: World) -> None:
    world.unpack()
    world.go_env(f'{STOCK}GOTOOLCHAIN="local"\n')


@case(f"{TOOLCHAIN}: `default` is go.mod's word", BROKEN, False, SOME, says=("invalid GOTOOLCHAIN",))
def goenv_default(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=default\n")


@case(f"{TOOLCHAIN}: a version without its go", BROKEN, False, says=("invalid GOTOOLCHAIN",))
def goenv_bare_version(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=1.27.3\n")


@case(f"{TOOLCHAIN}: a blank at the end", BROKEN, False, says=("invalid GOTOOLCHAIN",))
def goenv_with_a_blank_at_the_end(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=local \n")


@case(f"{TOOLCHAIN}: a suffix that there is not", BROKEN, False, says=("GOTOOLCHAIN",))
def goenv_unknown_suffix(world: World) -> None:
    world.unpack()
    world.go_env(f"GOTOOLCHAIN=go{world.version}+local\n")


@case(
    f"{TOOLCHAIN}: another release, which this machine cannot fetch",
    BROKEN,
    False,
    says=("another toolchain",),
    cure=r"set (GOTOOLCHAIN=local) in",
)
def goenv_names_another_release(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=go1.22.1\n")


@case(
    "https://pkg.go.dev/internal/goexperiment: one that has been removed", BROKEN, False, SOME, says=("GOEXPERIMENT",)
)
def goenv_unknown_experiment(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOTOOLCHAIN=local\nGOEXPERIMENT=nosuchthing\n")


@case("https://pkg.go.dev/cmd/go: GOFLAGS without a dash", BROKEN, False, SOME, says=("GOFLAGS",))
def goenv_flags_that_are_none(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOFLAGS=mod=mod\n")


@case("https://pkg.go.dev/cmd/go: an unknown flag in GOFLAGS", BROKEN, False, says=("GOFLAGS",))
def goenv_unknown_flag(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GOFLAGS=-nosuchflag\n")


@case("an editor on Windows: a carriage return behind GOARCH", BROKEN, False, SOME, says=("GOARCH=amd64",))
def goenv_platform_with_a_carriage_return(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=local\nGOARCH=amd64\r\n")


@case("https://go.dev/doc/install/source: GOOS of no known value", BROKEN, False, SOME, says=("GOOS=Linux",))
def goenv_unknown_system(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=local\nGOOS=Linux\n")


@case("https://pkg.go.dev/cmd/go: GOPATH as a shell would have it", BROKEN, False, SOME, says=("GOPATH entry",))
def goenv_gopath_that_is_not_absolute(world: World) -> None:
    world.unpack()
    world.go_env("GOTOOLCHAIN=local\nGOPATH=$HOME/go\n")


@case("https://pkg.go.dev/cmd/go: GO111MODULE of no known value", BROKEN, False, says=("GO111MODULE",))
def goenv_unknown_module_mode(world: World) -> None:
    world.unpack()
    world.go_env(f"{STOCK}GO111MODULE=yes\n")
