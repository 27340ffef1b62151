"""Child processes that never outlive who started them.

Contract. `guarded` is a command that asks the kernel for a death signal (PR_SET_PDEATHSIG, Linux),
notices a parent that died before it could ask, and then becomes the wanted program by exec, which
keeps the signal. The signal follows the *thread* that started the child: start it from one that
lives as long as the process. Elsewhere than on Linux the command runs without the signal.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# Argument 1 is the parent's id, 2 the signal: both are known before the fork, and no fork is needed here.
_GUARD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, int(sys.argv[2]), 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[3], sys.argv[3:])
"""


def guarded(command: Sequence[str], death: signal.Signals) -> list[str]:
    """The command that runs `command` (its program by full path) and gets `death` when this process ends."""
    return [sys.executable, "-S", "-E", "-c", _GUARD, str(os.getpid()), str(int(death)), *command]
