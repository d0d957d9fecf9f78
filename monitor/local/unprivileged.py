"""Lets PostgreSQL, which refuses to run as root, run as nobody; does nothing for any other user."""

import os
import pwd
import stat
from pathlib import Path

from monitor.local.errors import LocalError

USER = "nobody"


def unprivileged_user() -> str | None:
    """User to run as: ``nobody`` if we are root, else None for ourselves.

    Raises:
        LocalError: We are root on a machine without that user.
    """
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(USER)
    except KeyError:
        raise LocalError(
            f"PostgreSQL refuses to run as root and there is no user {USER}; run as another user"
        ) from None
    return USER


def group_of(user: str) -> int:
    """Primary group of a user."""
    return pwd.getpwnam(user).pw_gid


def hand_over(folder: Path, *, user: str) -> None:
    """Make an empty folder for a user, closed to everybody else."""
    folder.mkdir(mode=0o700)
    os.chown(folder, pwd.getpwnam(user).pw_uid, group_of(user))


def make_reachable(*paths: Path) -> None:
    """Let others pass through (not list) the folders above some paths, such as a closed home of root."""
    for folder in {folder for path in paths for folder in path.resolve().parents}:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
