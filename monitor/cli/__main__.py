"""``python -m monitor.cli`` is ``narrows``."""

from monitor.cli import main

main()
