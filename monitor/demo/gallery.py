"""Alerts as small digits in the terminal, a row at a time. Knows the truth, which the detector does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from monitor.demo.digits import DigitStream, draw, side_by_side

if TYPE_CHECKING:
    from monitor.store.rows import AnomalyRow

#: Alerts drawn in one row, and rows drawn in all; the rest is counted.
_PER_ROW = 5
_ROWS = 4


class Gallery:
    """Shows alerts as small digits, a row at a time; what does not fit is counted."""

    def __init__(self, console: Console, stream: DigitStream, *, unseen: int) -> None:
        self._console = console
        self._stream = stream
        self._unseen = unseen
        self._seen_id = 0
        self._waiting: list[AnomalyRow] = []
        self._rows = 0
        self._undrawn = 0

    def show(self, alerts: list[AnomalyRow], *, force: bool = False) -> None:
        """Draw what is new, once there is a row of it or ``force``."""
        new = [row for row in alerts if row.id > self._seen_id]
        self._seen_id = max((row.id for row in new), default=self._seen_id)
        self._waiting += new
        while len(self._waiting) >= _PER_ROW or (force and self._waiting):
            row, self._waiting = self._waiting[:_PER_ROW], self._waiting[_PER_ROW:]
            if self._rows < _ROWS:
                self._draw(row)
                self._rows += 1
            else:
                self._undrawn += len(row)
        if force and self._undrawn:
            self._console.print(f"  ... and {self._undrawn} more alerts, not drawn", style="dim")

    def _draw(self, row: list[AnomalyRow]) -> None:
        self._console.print()
        for line in side_by_side([self._block(alert) for alert in row]):
            self._console.print(Text("  ") + line, soft_wrap=True)

    def _block(self, alert: AnomalyRow) -> list[Text]:
        truth = int(self._stream.y[index_of(alert)])
        verdict = (
            Text(f"is a {truth}", style="green") if truth == self._unseen else Text(f"false: a {truth}", style="red")
        )
        lines = draw(alert.features, colour=self._console.color_system is not None)
        return [*lines, Text(f"alert {alert.id}", style="bold"), Text(f"{alert.score_ratio:.2f} x limit"), verdict]


def index_of(row: AnomalyRow) -> int:
    """Place of a flagged record in the stream."""
    return int((row.sample_id or "").removeprefix("digit-"))
