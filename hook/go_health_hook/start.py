# SPDX-License-Identifier: GPL-2.0-or-later
"""How a program of ours begins and ends: standard streams, and one line with the exit status for every error."""

from __future__ import annotations

import os
import signal
import sys

from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, EXIT_INTERRUPTED, HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def run(main: Callable[[], int]) -> int:
    """Return `main`'s exit status, or the one of the error that ended it, which is printed in one line on stderr."""
    open_standard_streams()
    # A caller that ignores it would have the kernel reap our children, and their statuses would be lost (wait(2)).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A terminal that is closed is a person who gives up, as with Ctrl-C; nohup(1) has it ignored.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        return main()
    except HookError as error:
        print(f"go-health-hook: {error.line()}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_INTERNAL
    except SystemExit as end:  # how argparse ends --help and --version, which it has printed
        return end.code if isinstance(end.code, int) else EXIT_ALLOW
    except KeyboardInterrupt:
        print("go-health-hook: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        import traceback

        traceback.print_exc()
        print(f"go-health-hook: a fault of its own, please report it: {error!r}", file=sys.stderr)
        return EXIT_INTERNAL


def open_standard_streams() -> None:
    """Open the standard streams that the caller has closed: else a pipe of ours would get the number of one."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    # Replace characters that the terminal cannot encode.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
