"""Shares with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z = 1.959963984540054  # 95 percent, both sides


@dataclass(frozen=True)
class Share:
    """``found`` of ``tried``, and Wilson's 95 percent interval of the true share."""

    found: int
    tried: int

    @property
    def value(self) -> float | None:
        """The share, or None of nothing."""
        return self.found / self.tried if self.tried else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper bound, or None of nothing."""
        if not self.tried:
            return None
        n, p = self.tried, self.found / self.tried
        middle = p + _Z * _Z / (2 * n)
        spread = _Z * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
        scale = 1 + _Z * _Z / n
        low, high = (middle - spread) / scale, (middle + spread) / scale
        return (0.0 if self.found == 0 else low, 1.0 if self.found == n else high)

    def __add__(self, other: Share) -> Share:
        return Share(self.found + other.found, self.tried + other.tried)
