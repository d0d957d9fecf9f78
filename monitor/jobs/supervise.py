"""Runs a command that must not outlive its owner; run as a script by ``child.py``, never imported.

The owner holds the other end of standard input. The kernel closes it however the owner dies, also by SIGKILL and also
before this script has begun, so there is no moment in which the command could be orphaned. Owner, then this, then the
command: this script leads their process group.
"""

import os
import signal
import subprocess
import sys
import threading


def end_with_owner() -> None:
    """Wait for the end of standard input, then kill the whole group, this process included."""
    os.read(0, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main(command: list[str]) -> int:
    """Run the command.

    Returns:
        Its exit status; 128 + n where signal n ended it, as in a shell.
    """
    # A handler, not SIG_IGN, which the command would inherit: SIGTERM is for the command, its end is ours.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_owner, daemon=True).start()
    status = subprocess.call(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the owner's command, no shell
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # at once: the thread that waits for the owner must not hold up the end
