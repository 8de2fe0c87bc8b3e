"""`python -m tests.hub ROOT [--port N]`: serves ROOT/OWNER/REPO until interrupted; prints its endpoint first."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from tests.hub.server import LoopbackHub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
    parser.add_argument("root", type=Path, help="folder of OWNER/REPO folders")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    options = parser.parse_args()
    if not options.root.is_dir():
        parser.error(f"{options.root} is not a folder")
    # One waiter for both ways to stop; a handler that raises could interrupt the printing.
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    with LoopbackHub(options.root, port=options.port) as hub:
        print(hub.endpoint, flush=True)
        signal.sigwait(stops)


if __name__ == "__main__":
    main()
