"""Scales, ticks and axes of a chart in SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plmsearch.repertoire.markup import Markup, join, tag

__all__ = ["INK", "MUTED", "Frame", "Scale", "as_percent", "draw", "shortened", "thousands"]

#: Colours of text and lines; the lighter one has 4.6:1 on white.
INK, MUTED, GRID = "#1a2530", "#5b6772", "#dfe5ea"
#: Width of every chart, in its own units: narrow, so that letters can be read on a phone too.
WIDTH = 360.0
#: Mean width of a character of 11 units in a wide font (DejaVu Sans): what fits there fits everywhere.
_CHARACTER = 6.6


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a value is drawn.

    Parameters
    ----------
    low, high : float
        Values at the ends; for a logarithmic scale above 0.
    start, stop : float
        Places of the ends.
    log : bool
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return where a value is drawn; one beyond an end is drawn at the end."""
        low, high, x = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, x = math.log(low), math.log(high), math.log(x)
        share = (x - low) / (high - low) if high > low else 0.0
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return round values between the ends, four to seven of them where that is possible."""
        if not self.log or self.high < 10 * self.low:
            return _linear_ticks(self.low, self.high)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = (1,) if last - first > 2 else (1, 2, 5)
        every = max(1, (last - first) // 6)
        values = [m * 10.0**e for e in range(first, last + 1, every) for m in steps]
        return [v for v in values if self.low * 0.999 <= v <= self.high * 1.001]


def _linear_ticks(low: float, high: float) -> list[float]:
    span = max(high - low, 1e-12)
    size = 10 ** math.floor(math.log10(span / 5))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= 5.5)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thousands(value: float) -> str:
    """Write a number for an axis.

    Examples
    --------
    >>> thousands(1500), thousands(20_000), thousands(2.5e6), thousands(0.25)
    ('1,500', '20k', '2.5M', '0.25')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.3g}"


def as_percent(value: float) -> str:
    """Write a share for an axis.

    Examples
    --------
    >>> as_percent(0.25), as_percent(0.00012), as_percent(0.125)
    ('25%', '0.012%', '12.5%')
    """
    return f"{value * 100:.3g}%"


def shortened(text: str, width: float, size: float = 11.0) -> str:
    """Cut a text to a width, with an ellipsis in its middle: names differ at their ends."""
    most = max(int(width / (_CHARACTER * size / 11.0)), 3)
    if len(text) <= most:
        return text
    head = most // 2
    return f"{text[:head]}…{text[len(text) - (most - head - 1) :]}"


@dataclass(frozen=True, slots=True)
class Frame:
    """The axes of a chart.

    Parameters
    ----------
    x, y : Scale
    x_title, y_title : str
    x_text, y_text : callable
        How ticks are written.
    """

    x: Scale
    y: Scale
    x_title: str
    y_title: str
    x_text: Callable[[float], str] = thousands
    y_text: Callable[[float], str] = thousands

    def render(self) -> Markup:
        """Draw grid, ticks and titles; the title of y stands above, where it can be read."""
        left, bottom, top = self.x.start, self.y.start, self.y.stop
        parts: list[str] = []
        for value in self.y.ticks():
            at = self.y(value)
            parts += [
                tag("line", x1=left, x2=self.x.stop, y1=at, y2=at, class_="grid"),
                tag("text", self.y_text(value), x=left - 5, y=at + 3.5, class_="tick end"),
            ]
        last = -1e9
        for value in self.x.ticks():
            at, label = self.x(value), self.x_text(value)
            if at - last < len(label) * _CHARACTER + 4:
                continue
            last = at
            parts += [
                tag("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"),
                tag("text", label, x=at, y=bottom + 16, class_="tick mid"),
            ]
        parts += [
            tag("line", x1=left, x2=self.x.stop, y1=bottom, y2=bottom, class_="axis"),
            tag("text", self.x_title, x=(left + self.x.stop) / 2, y=bottom + 33, class_="name mid"),
            tag("text", self.y_title, x=2, y=top - 9, class_="name"),
        ]
        return join(*parts)


def draw(title: str, description: str, height: float, parts: Sequence[str], width: float = WIDTH) -> Markup:
    """Put a chart together, with a title and a description that a screen reader tells.

    The description is also the text alternative of the picture: what is drawn, of how many, in which unit.
    """
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=f"{title}. {description}",
    )
