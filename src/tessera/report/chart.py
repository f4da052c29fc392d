"""Small charts as SVG that follow the page's colours, light or dark.

A chart is drawn in a box of 420 x 240 units, so that its letters stay readable from a phone to a
desktop. Colours are CSS classes: ``c0``, ``c1``, ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 420.0, 240.0
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 14.0, 40.0


@dataclass(frozen=True)
class Line:
    """One curve: its name, its points, its colour class."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "c0"
    dots: bool = False


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers within a range, steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((s * power for s in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def number(value: float) -> str:
    """Return a tick's text: short, thousands apart, no -0."""
    if value == 0 or abs(value) < 1e-12:
        return "0"
    if abs(value) >= 10_000:
        return f"{value:,.0f}".replace(",", "\u202f")
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.4g}"


class _Frame:
    """Axes: maps data to the drawing and draws grid, ticks and titles."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], log_y: bool = False) -> None:
        self.x, self.log_y = x, log_y
        self.y = (math.log10(y[0]), math.log10(y[1])) if log_y else y

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point lies in the drawing."""
        y = math.log10(max(y, 1e-300)) if self.log_y else y
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )

    def draw(self, x_title: str, y_title: str) -> Markup:
        """Return grid, ticks and titles."""
        out = Markup("")
        for value in self._y_ticks():
            _, v = self.at(self.x[0], value)
            out += Markup(
                '<line class="grid" x1="{a}" x2="{b}" y1="{v:.1f}" y2="{v:.1f}"/>'
                '<text class="tick" x="{t}" y="{y:.1f}" text-anchor="end">{text}</text>'
            ).format(a=_LEFT, b=WIDTH - _RIGHT, v=v, t=_LEFT - 7, y=v + 4, text=number(value))
        for value in ticks(*self.x, 5):
            u, _ = self.at(value, 1)
            out += Markup(
                '<text class="tick" x="{u:.1f}" y="{y}" text-anchor="middle">{text}</text>'
            ).format(u=u, y=HEIGHT - _BOTTOM + 16, text=number(value))
        out += Markup(
            '<text class="axis" x="{x}" y="{y}" text-anchor="end">{xt}</text>'
            '<text class="axis" x="{l}" y="9" text-anchor="start">{yt}</text>'
        ).format(x=WIDTH - _RIGHT, y=HEIGHT - 5, xt=x_title, l=0, yt=y_title)
        return out

    def _y_ticks(self) -> list[float]:
        if not self.log_y:
            return ticks(*self.y, 4)
        powers = range(math.ceil(self.y[0] - 1e-9), math.floor(self.y[1] + 1e-9) + 1)
        every = max(1, len(powers) // 5)
        return [10.0**p for p in list(powers)[::every]]


def svg(body: Markup, label: str, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """Return a drawing of a size with what a screen reader says."""
    return Markup(
        '<svg class="chart" viewBox="0 0 {w:g} {h:g}" role="img" aria-label="{label}">{body}</svg>'
    ).format(w=width, h=height, label=label, body=body)


def lines(
    curves: Sequence[Line],
    label: str,
    x_title: str,
    y_title: str,
    marks: Sequence[tuple[float, str]] = (),
    from_zero: bool = False,
    top: float | None = None,
) -> Markup:
    """Return curves in one frame.

    Args:
        curves: what to draw; points that are not finite are left out.
        label: what a screen reader says.
        x_title, y_title: titles of the axes, with units.
        marks: vertical lines (x, text).
        from_zero: the y axis starts at 0.
        top: the y axis ends here; None takes it from the data.
    """
    drawn = [_finite(c) for c in curves]
    drawn = [c for c in drawn if len(c.x)]
    if not drawn:
        return Markup("")
    xs = np.concatenate([np.asarray(c.x, float) for c in drawn])
    ys = np.concatenate([np.asarray(c.y, float) for c in drawn])
    power = int(math.floor(math.log10(largest))) if 0 < (largest := abs(ys).max()) < 1e-2 else 0
    if power:  # 0.00031 is read more easily as 3.1 of 10^-4
        ys = ys / 10.0**power
        drawn = [replace(c, y=[v / 10.0**power for v in c.y]) for c in drawn]
        y_title += f" (10{str(power).translate(_RAISED)})"
    low, high = float(ys.min()), float(ys.max())
    room = 0.06 * (high - low or abs(high) or 1)
    span = (0.0 if from_zero else low - room, high + room if top is None else top)
    frame = _Frame((float(xs.min()), float(xs.max())), span)
    body = frame.draw(x_title, y_title)
    for at, text in marks:
        u, _ = frame.at(at, span[0])
        end = "end" if u > WIDTH * 0.7 else "start"
        body += Markup(
            '<line class="mark" x1="{u:.1f}" x2="{u:.1f}" y1="{a}" y2="{b}"/>'
            '<text class="marked" x="{x:.1f}" y="{y}" text-anchor="{end}">{text}</text>'
        ).format(
            u=u, a=_TOP, b=HEIGHT - _BOTTOM, x=u + (-6 if end == "end" else 6), y=_TOP + 10,
            end=end, text=text,
        )  # fmt: skip
    for curve in drawn:
        points = [frame.at(a, b) for a, b in zip(curve.x, curve.y, strict=True)]
        text = " ".join(f"{u:.1f},{v:.1f}" for u, v in points)
        body += Markup('<polyline class="line {c}" points="{p}"/>').format(c=curve.colour, p=text)
        if curve.dots:
            body += Markup("").join(
                Markup('<circle class="dot {c}" cx="{u:.1f}" cy="{v:.1f}" r="3"/>').format(
                    c=curve.colour, u=u, v=v
                )
                for u, v in points
            )
    return _legend(drawn) + svg(body, label)


def _finite(curve: Line) -> Line:
    pairs = [
        (float(a), float(b))
        for a, b in zip(curve.x, curve.y, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    return Line(curve.name, [a for a, _ in pairs], [b for _, b in pairs], curve.colour, curve.dots)


def _legend(curves: Sequence[Line]) -> Markup:
    if len(curves) < 2:
        return Markup("")
    keys = Markup("").join(
        Markup('<span class="key {c}">{n}</span>').format(c=c.colour, n=c.name) for c in curves
    )
    return Markup('<div class="legend">{}</div>').format(keys)


def histogram(
    counts: Sequence[float],
    edges: Sequence[float],
    label: str,
    x_title: str,
    y_title: str,
    log: bool = False,
    colour: str = "c0",
    marks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Return bars over bin edges; ``log`` counts in powers of ten."""
    counts = [max(float(c), 0.0) for c in counts]
    if not counts or max(counts) <= 0:
        return Markup("")
    base = 0.8 if log else 0.0
    high = max(counts) * (1.6 if log else 1.08)
    frame = _Frame((float(edges[0]), float(edges[-1])), (base, high), log)
    body = frame.draw(x_title, y_title)
    floor, gap = HEIGHT - _BOTTOM, 0.6 if len(counts) < 60 else -0.3
    for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True):
        if count > base:
            left, top = frame.at(a, count)
            right, _ = frame.at(b, count)
            body += Markup(
                '<rect class="bar {c}" x="{x:.2f}" y="{y:.1f}" width="{w:.2f}" height="{h:.1f}"/>'
            ).format(
                c=colour,
                x=left,
                y=top,
                w=right - left - gap,
                h=max(floor - top, 0),
            )
    for at, text in marks:
        u, _ = frame.at(at, high)
        body += Markup(
            '<line class="mark" x1="{u:.1f}" x2="{u:.1f}" y1="{a}" y2="{b}"/>'
            '<text class="marked" x="{x:.1f}" y="{y}">{text}</text>'
        ).format(u=u, a=_TOP, b=floor, x=u + 6, y=_TOP + 10, text=text)
    return svg(body, label)


def interval(
    value: float, low: float | None, high: float | None, span: tuple[float, float]
) -> Markup:
    """Return a dot with its confidence interval on a short axis, for a table's cell."""
    width, height = 160.0, 16.0

    def at(x: float) -> float:
        return 6 + (width - 12) * min(max((x - span[0]) / (span[1] - span[0]), 0), 1)

    body = Markup('<line class="grid" x1="6" x2="{b}" y1="8" y2="8"/>').format(b=width - 6)
    if low is not None and high is not None:
        body += Markup('<line class="whisker" x1="{a:.1f}" x2="{b:.1f}" y1="8" y2="8"/>').format(
            a=at(low), b=at(high)
        )
    body += Markup('<circle class="dot c0" cx="{x:.1f}" cy="8" r="4.5"/>').format(x=at(value))
    return Markup(
        '<svg class="interval" viewBox="0 0 {w:g} {h:g}" aria-hidden="true">{body}</svg>'
    ).format(w=width, h=height, body=body)
