"""MLServer with its XGBoost runtime: `mlserver start FOLDER` on a folder that is written here.

python -m bench.peers.mlserver_server PORT FOLDER PARALLEL_WORKERS
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Write the two settings files, then become MLServer."""
    port, folder, workers = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    home = folder / f"mlserver-{workers}"
    home.mkdir(exist_ok=True)
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": workers,
    }
    model = {
        "name": "fraud",
        "implementation": "mlserver_xgboost.XGBoostModel",
        "parameters": {"uri": str(folder / "model.ubj"), "version": "1.0.0"},
    }
    (home / "settings.json").write_text(json.dumps(server))
    (home / "model-settings.json").write_text(json.dumps(model))
    os.chdir(home)
    program = Path(sys.executable).parent / "mlserver"
    os.execv(program, [str(program), "start", str(home)])  # noqa: S606  MLServer's own command


if __name__ == "__main__":
    main()
