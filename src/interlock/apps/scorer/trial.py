"""The throwaway process: reads one job, tries one bundle, writes one result, ends.

Started as `python -m interlock.apps.scorer.trial`. The imports are done before the job is read, so
that a child started early costs a release nothing. It ends with its parent: while it waits, by the
end of its standard input; while it works, by the parent-death signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.clock import SystemClock
from interlock.serving import trial

COMMAND = (sys.executable, "-m", "interlock.apps.scorer.trial")
"""Starts this program from another one."""


def main() -> None:
    """Serve one job from standard input."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
    # Only the result may stand on standard output: libraries that print go to the errors.
    out = os.dup(1)
    os.dup2(2, 1)
    line = sys.stdin.buffer.readline()
    if line:

        def begun() -> None:
            os.write(out, trial.BEGUN)

        os.write(out, trial.child(line, OnnxRuntime.from_bytes, SystemClock(), begun))
    os.close(out)


if __name__ == "__main__":
    main()
