"""The demo's data: scikit-learn's bundled handwritten digits (1797 of 8 x 8), and how one is drawn in a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

SIDE = 8
_WHITE = 16.0
_SHADES = " ░▒▓█"


@dataclass(frozen=True, slots=True)
class DigitStream:
    """History to train on and records to stream.

    Attributes:
        history_x: Pixels of known digits, float32 (n, 64).
        history_y: Their labels.
        x: Pixels of the stream in its order.
        y: What each really is.
        turn: Index from which the unseen digit is among them.
    """

    history_x: NDArray[np.float32]
    history_y: NDArray[np.str_]
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    turn: int

    def payload(self, index: int, *, unseen: int, time_s: float) -> bytes:
        """Record ``index`` as a producer would send it; nobody has labelled the unseen digit."""
        digit = int(self.y[index])
        return json.dumps(
            {
                "id": f"digit-{index}",
                "ts": time_s,
                "label": None if digit == unseen else digit,
                "pixels": [float(value) for value in self.x[index]],
            }
        ).encode()


def digit_stream(*, unseen: int, seed: int) -> DigitStream:
    """Three quarters of the known digits to train on, the rest to stream; the unseen one in its second half only."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes half a second

    bunch = load_digits()
    x, y = bunch.data.astype(np.float32), bunch.target.astype(np.int64)
    rng = np.random.default_rng(seed)
    known, odd = rng.permutation(np.flatnonzero(y != unseen)), rng.permutation(np.flatnonzero(y == unseen))
    n_history = int(0.75 * len(known))
    history, rest = known[:n_history], known[n_history:]
    turn = len(rest) // 2
    order = np.concatenate([rest[:turn], rng.permutation(np.concatenate([rest[turn:], odd]))])
    return DigitStream(x[history], y[history].astype(str), x[order], y[order], turn)


def draw(pixels: NDArray[np.float32], *, colour: bool) -> list[Text]:
    """A digit as lines of text: two pixels a character in grey where there is colour, shaded blocks where not."""
    grid = np.clip(pixels.reshape(SIDE, SIDE) / _WHITE, 0.0, 1.0)
    if not colour:
        return [Text("".join(2 * _SHADES[round(value * (len(_SHADES) - 1))] for value in row)) for row in grid]
    return [_half_blocks(grid[row], grid[row + 1]) for row in range(0, SIDE, 2)]


def side_by_side(blocks: Sequence[Sequence[Text]], *, gap: int = 3) -> list[Text]:
    """Blocks of lines next to each other, padded to their widths."""
    widths = [max(len(line) for line in block) for block in blocks]
    lines = []
    for row in range(max(len(block) for block in blocks)):
        line = Text()
        for block, width in zip(blocks, widths, strict=True):
            part = block[row].copy() if row < len(block) else Text()
            part.pad_right(width - len(part) + gap)
            line.append_text(part)
        line.rstrip()
        lines.append(line)
    return lines


def _half_blocks(top: NDArray[np.float32], bottom: NDArray[np.float32]) -> Text:
    line = Text()
    for upper, lower in zip(top, bottom, strict=True):
        line.append("▀▀", Style(color=_grey(float(upper)), bgcolor=_grey(float(lower))))
    return line


def _grey(value: float) -> str:
    level = round(255 * value)
    return f"rgb({level},{level},{level})"
