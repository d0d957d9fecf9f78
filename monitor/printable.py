"""Text from outside made safe to show: keys, labels and payloads must not move a cursor or forge a log line."""

from __future__ import annotations

import re
from typing import Final

# Control characters, separators of lines, and the marks that turn the direction of writing.
_UNSAFE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""The text with every character that could disturb a terminal shown escaped, such as ``\x1b``."""
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)


def printable_bytes(value: bytes, *, limit: int = 200) -> str:
    """Start of a payload as text where it is UTF-8, with what is not shown escaped."""
    text = printable(value[:limit].decode("utf-8", errors="backslashreplace"))
    return text + "..." if len(value) > limit else text
