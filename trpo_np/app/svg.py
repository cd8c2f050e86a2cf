"""Line charts as SVG text, to stand in a page whose style sheet gives the colours, light and dark.

The classes are `line`, `band`, `limit`, `grid` and, for the colour of the i-th curve, `c0`, `c1`, ...
"""

import math
from html import escape
from typing import NamedTuple

import numpy as np

from .plots import COLOURS, LINES, Curve

WIDTH, HEIGHT = 400, 260  # so small that its text can be read where a phone shrinks it
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 38
DASHES = dict(zip(LINES, ["none", "7 4", "2 3"]))


class Axes(NamedTuple):
    """What a chart shows: from (x0, y0), the corner below on the left, to (x1, y1)."""

    x0: float
    x1: float
    y0: float
    y1: float

    def points(self, x, y) -> str:
        """Return places of the picture as text; what lies outside is moved to the frame."""
        to_x, to_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        across = LEFT + (np.clip(x, self.x0, self.x1) - self.x0) / (self.x1 - self.x0) * to_x
        down = TOP + (self.y1 - np.clip(y, self.y0, self.y1)) / (self.y1 - self.y0) * to_y
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten that lie from low to high, at most so many."""
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * k for k in (1, 2, 5, 10, 20) if (high - low) / (size * k) < most)
    return [step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def shown(value: float) -> str:
    """Return a number of an axis in few characters: 20k, 1.5M, 0.005."""
    for unit, name in [(1e9, "G"), (1e6, "M"), (1e3, "k")]:
        if abs(value) >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"


def fit(curves: list[Curve], limit: float | None, lowest: float | None, highest: float | None) -> Axes:
    """Return axes that hold the curves and the limit, or that go from lowest to highest."""
    x0, x1 = min(each.x.min() for each in curves), max(each.x.max() for each in curves)
    level = [] if limit is None else [limit]
    y0 = min([each.low.min() for each in curves] + level) if lowest is None else lowest
    y1 = max([each.high.max() for each in curves] + level) if highest is None else highest
    room = 0.04 * (y1 - y0) if y1 > y0 else abs(y1) or 1.0
    return Axes(x0, x1 if x1 > x0 else x0 + 1, y0 - room, y1 + room)


def chart(curves: list[tuple[int, Curve]], label: str, x_label: str = "environment steps",
          limit: float | None = None, lowest: float | None = None, highest: float | None = None) -> str:
    """Return a chart of curves, each with its band and the number of its colour.

    label: what the chart shows, for those who cannot see it. limit: where to draw a level line. lowest,
    highest: ends of the vertical axis, if not those of the curves; what lies outside is drawn on the frame.
    """
    axes = fit([each for _, each in curves], limit, lowest, highest)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for y in ticks(axes.y0, axes.y1):
        left, right = axes.points([axes.x0, axes.x1], [y, y]).split()
        parts.append(f'<polyline class="grid" points="{left} {right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(left.split(",")[1]) + 4:.1f}" text-anchor="end">'
                     f'{shown(y)}</text>')
    for x in ticks(axes.x0, axes.x1, 5):
        across = axes.points([x], [axes.y0]).split(",")[0]
        parts.append(f'<text x="{across}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{shown(x)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    if limit is not None:
        parts.append(f'<polyline class="limit" points="{axes.points([axes.x0, axes.x1], [limit] * 2)}"/>')
    for i, each in curves:
        if each.runs > 1:
            around = axes.points(np.concatenate([each.x, each.x[::-1]]),
                                 np.concatenate([each.high, each.low[::-1]]))
            parts.append(f'<polygon class="band c{i % len(COLOURS)}" points="{around}"/>')
    for i, each in curves:
        dashes = DASHES[LINES[i // len(COLOURS) % len(LINES)]]
        points = axes.points(each.x, each.mean)
        parts.append(f'<polyline class="line c{i % len(COLOURS)}" stroke-dasharray="{dashes}" '
                     f'points="{points}"><title>{escape(each.label)}</title></polyline>')
        if len(each.x) == 1:
            across, down = points.split(",")
            parts.append(f'<circle class="c{i % len(COLOURS)}" cx="{across}" cy="{down}" r="3"/>')
    return "\n".join([*parts, "</svg>"])
