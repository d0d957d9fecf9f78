"""Ends a server when its owner is gone; run as a script by `process.py`, never imported.

The owner holds the other end of standard input. The kernel closes it however the owner dies, also by SIGKILL, on
Linux and macOS alike (PR_SET_PDEATHSIG is Linux only, and fires when a mere thread ends).
"""

import contextlib
import os
import signal
import sys


def main(pid: int, signal_number: int) -> None:
    """Wait for the end of standard input, then signal the group of the server.

    Args:
        pid: Process id of the server, leader of its own group.
        signal_number: What ends it at once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the owner, which stops the server in order
    sys.stdin.buffer.read()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal_number)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
