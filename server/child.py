"""The child's half of a bond: a process started by the server ends when the server does, even by kill -9.

The server holds the writing end of our standard input and never writes to it after the start; when it dies, however it
dies, the kernel closes that end and our read returns nothing. Then the whole process group goes, so that a compiler
started by a build goes too. This works wherever there are pipes, unlike PR_SET_PDEATHSIG, which also misses grandchildren.

    python -m hybr.server.child NICE MODULE [ARGUMENT...]     runs MODULE as `python -m` would, bound and with that niceness
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def bind_to_parent() -> None:
    """Watch standard input from a thread; on its end kill our process group. Standard input becomes empty for all others."""
    leash = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(leash,), name="leash", daemon=True).start()


def _watch(leash: int) -> None:
    while os.read(leash, 4096):
        pass
    if os.getpgid(0) == os.getpid():  # never the group of whoever runs us by hand
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Run the module named on the command line."""
    nice, module, *arguments = sys.argv[1:]
    bind_to_parent()
    os.nice(int(nice))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
