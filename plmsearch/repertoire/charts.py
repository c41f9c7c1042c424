"""The kinds of charts of a repertoire report, as inline SVG.

Each is 360 units wide, so that its letters can be read on a phone, and a page sets several beside each
other. Colours are those of Okabe and Ito (2008), which can be told apart with every kind of colour vision;
where there are more series than colours, each gets a small panel of its own, with all others as a band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.axes import Frame, Scale, as_percent, draw, shortened, thousands
from plmsearch.repertoire.markup import Markup, join, tag

__all__ = ["COLOURS", "Axis", "Bars", "Series", "bars", "heatmap", "intervals", "lines", "panels", "stacks"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
#: From much to little: dark is the largest clone.
STACK_COLOURS = ("#08306b", "#2171b5", "#6baed6", "#c6dbef", "#edf2f7")
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 360.0, 48.0, 12.0, 26.0, 42.0
_BAR, _GAP = 13.0, 5.0
_DARK = np.array([0x08, 0x45, 0x94])


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows.

    Parameters
    ----------
    title : str
    log : bool
    text : callable
        How ticks are written.
    low : float or None
        Lower end; None: that of the values.
    """

    title: str
    log: bool = False
    text: Callable[[float], str] = thousands
    low: float | None = None

    def scale(self, values: Sequence[NDArray[np.float64]], start: float, stop: float) -> Scale:
        """Span some values."""
        joined = np.concatenate(values) if values else np.array([1.0])
        joined = joined[np.isfinite(joined) & ((joined > 0) | (not self.log))]
        low, high = (float(joined.min()), float(joined.max())) if len(joined) else (0.1, 1.0)
        low = low if self.low is None else self.low
        if high <= low:
            high = low * 1.5 if self.log else low + 1.0
        return Scale(low, high * (1.0 if self.log else 1.02), start, stop, self.log)


@dataclass(frozen=True, slots=True)
class Series:
    """A line, with a band around it or not.

    Parameters
    ----------
    name : str
    x, y : ndarray, dtype=float64, shape=(p,)
    low, high : ndarray or None
        Ends of the band.
    solid : int or None
        Points up to here are drawn as a line, those behind are dashed; None: all are a line.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64] | None = field(default=None)
    high: NDArray[np.float64] | None = field(default=None)
    solid: int | None = None


# --- Lines -----------------------------------------------------------------------------------------


def lines(title: str, description: str, series: Sequence[Series], x: Axis, y: Axis) -> Markup:
    """Draw up to seven series in one chart."""
    height = 250.0
    frame = _frame(series, x, y, height)
    parts: list[str] = [frame.render()]
    for i, one in enumerate(series):
        parts.append(_band(one, frame, COLOURS[i]))
    for i, one in enumerate(series):
        parts.append(_line(one, frame, COLOURS[i], i if len(series) > 1 else None))
    return draw(title, description, height, parts)


def panels(title: str, description: str, series: Sequence[Series], x: Axis, y: Axis) -> list[Markup]:
    """Draw each series in a panel of its own, on common axes, with the range of all as a band."""
    width, height = 200.0, 150.0
    frame = _frame(series, x, y, height, width)
    band = _range_of_all(series, frame)
    found = []
    for one in series:
        name = tag("text", shortened(one.name, width - 4, 12.5), x=2, y=11, class_="panel")
        axes = Frame(frame.x, frame.y, x.title, "", x.text, y.text).render()
        parts = [axes, band, _band(one, frame, COLOURS[0]), _line(one, frame, COLOURS[0], None), name]
        found.append(draw(f"{title}: {one.name}", description, height, parts, width))
    return found


def _frame(series: Sequence[Series], x: Axis, y: Axis, height: float, width: float = _WIDTH) -> Frame:
    x_scale = x.scale([one.x for one in series], _LEFT, width - _RIGHT)
    tops = [one.y if one.high is None else one.high for one in series]
    y_scale = y.scale([*(one.y for one in series), *tops], height - _BOTTOM, _TOP)
    return Frame(x_scale, y_scale, x.title, y.title, x.text, y.text)


def _path(x: NDArray[np.float64], y: NDArray[np.float64], frame: Frame, command: str = "M") -> str:
    points = (
        f"{frame.x(a):.1f} {frame.y(b):.1f}"
        for a, b in zip(x.tolist(), y.tolist(), strict=True)
        if math.isfinite(b) and not (frame.y.log and b <= 0)
    )
    return command + "L".join(points)


def _band(one: Series, frame: Frame, colour: str) -> Markup:
    if one.low is None or one.high is None:
        return Markup("")
    path = _path(one.x, one.high, frame) + _path(one.x[::-1], one.low[::-1], frame, "L") + "Z"
    return tag("path", d=path, fill=colour, fill_opacity=0.16)


def _line(one: Series, frame: Frame, colour: str, number: int | None) -> Markup:
    solid = len(one.x) if one.solid is None else one.solid
    parts = [tag("path", d=_path(one.x[:solid], one.y[:solid], frame), class_="line", stroke=colour)]
    if solid < len(one.x):
        dashed = _path(one.x[solid - 1 :], one.y[solid - 1 :], frame)
        parts.append(tag("path", d=dashed, class_="line", stroke=colour, stroke_dasharray="4 3"))
    at = solid - 1
    if number is None and one.solid is None:
        return join(*parts)  # alone, and no point stands for the sample
    parts.append(marker(frame.x(float(one.x[at])), frame.y(float(one.y[at])), number or 0, colour))
    return join(*parts)


def marker(x: float, y: float, number: int, colour: str) -> Markup:
    """Draw a mark whose form tells series apart without colour."""
    shape = number % 4
    if shape == 0:
        return tag("circle", cx=x, cy=y, r=3.4, fill=colour)
    if shape == 1:
        return tag("rect", x=x - 3, y=y - 3, width=6, height=6, fill=colour)
    if shape == 2:
        points = f"{x:.1f},{y - 4:.1f} {x + 4:.1f},{y + 3:.1f} {x - 4:.1f},{y + 3:.1f}"
    else:
        points = f"{x:.1f},{y - 4.2:.1f} {x + 4.2:.1f},{y:.1f} {x:.1f},{y + 4.2:.1f} {x - 4.2:.1f},{y:.1f}"
    return tag("polygon", points=points, fill=colour)


def _range_of_all(series: Sequence[Series], frame: Frame) -> Markup:
    """Return the band between the lowest and the highest series, at common points of x."""
    log = frame.x.log
    space = np.geomspace if log else np.linspace
    grid = space(frame.x.low, frame.x.high, 40)
    rows = np.array([np.interp(grid, one.x, one.y, left=np.nan, right=np.nan) for one in series])
    known = ~np.isnan(rows).all(axis=0)
    if not known.any():
        return Markup("")
    low, high = np.nanmin(rows[:, known], axis=0), np.nanmax(rows[:, known], axis=0)
    path = _path(grid[known], high, frame) + _path(grid[known][::-1], low[::-1], frame, "L") + "Z"
    return tag("path", d=path, fill="#8896a3", fill_opacity=0.25)


# --- Bars ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bars:
    """Values by name and series.

    Parameters
    ----------
    names : sequence of str
        n rows.
    series : sequence of str
        k columns.
    values : ndarray, dtype=float64, shape=(n, k)
        Shares.
    """

    names: Sequence[str]
    series: Sequence[str]
    values: NDArray[np.float64]


def bars(title: str, description: str, data: Bars) -> Markup:
    """Draw horizontal bars, those of one name beside each other."""
    n_series = len(data.series)
    thick = max(_BAR / n_series, 4.0)
    step = thick * n_series + _GAP
    left = _label_width(data.names)
    height = 8 + step * len(data.names) + 40
    scale = Axis("", low=0.0).scale([data.values.ravel()], left, _WIDTH - 40)
    frame = Frame(scale, Scale(0, 1, height - 40, 4), "share", "", as_percent)
    parts: list[str] = [_vertical_axis(frame, height - 40)]
    for i, name in enumerate(data.names):
        top = 6 + i * step
        parts.append(_label(name, left, top + step / 2 - _GAP / 2 + 3.5))
        for k in range(n_series):
            value = float(data.values[i, k])
            y = top + k * thick
            bar = tag("rect", x=left, y=y, width=max(scale(value) - left, 0.0), height=thick - 0.8,
                      fill=COLOURS[k])  # fmt: skip
            parts.append(bar)
        if n_series == 1:
            parts.append(tag("text", as_percent(value), x=scale(value) + 4, y=top + 9.5, class_="tick"))
    return draw(title, description, height, parts)


def _vertical_axis(frame: Frame, bottom: float) -> Markup:
    parts = []
    for value in frame.x.ticks():
        at = frame.x(value)
        parts.append(tag("line", x1=at, x2=at, y1=4, y2=bottom, class_="grid"))
        parts.append(tag("text", frame.x_text(value), x=at, y=bottom + 15, class_="tick mid"))
    middle = (frame.x.start + frame.x.stop) / 2
    parts.append(tag("text", frame.x_title, x=middle, y=bottom + 32, class_="name mid"))
    return join(*parts)


def _label_width(names: Sequence[str], most: float = 130.0) -> float:
    return min(max((len(name) for name in names), default=0) * 6.8 + 8, most)


def _label(name: str, left: float, y: float) -> Markup:
    short = shortened(name, left - 8)
    children = (short,) if short == name else (tag("title", name), short)
    return tag("text", *children, x=left - 6, y=y, class_="label end")


def stacks(title: str, description: str, data: Bars) -> Markup:
    """Draw one bar for each name, divided into parts that sum to 1; the name stands above its bar."""
    step = 33.0
    height = 6 + step * len(data.names) + 34
    scale = Scale(0, 1, 12, _WIDTH - 18)
    frame = Frame(scale, Scale(0, 1, height - 36, 4), "share of units", "", as_percent)
    parts: list[str] = [_vertical_axis(frame, height - 36)]
    for i, name in enumerate(data.names):
        top = 4 + i * step
        short = shortened(name, _WIDTH - 12)
        children = (short,) if short == name else (tag("title", name), short)
        parts.append(tag("text", *children, x=12, y=top + 10, class_="label halo"))
        before = 0.0
        for k in range(len(data.series)):
            value = float(data.values[i, k])
            if value > 0:
                x, end = scale(before), scale(before + value)
                parts.append(tag("rect", x=x, y=top + 14, width=end - x, height=_BAR, fill=STACK_COLOURS[k],
                                 stroke="#fff", stroke_width=0.6))  # fmt: skip
            before += value
    return draw(title, description, height, parts)


def intervals(
    title: str, description: str, names: Sequence[str], rows: NDArray[np.float64], axis: Axis
) -> Markup:
    """Draw quantiles: a thin line from 5 to 95%, a thick one from 25 to 75%, a dot at the median.

    Parameters
    ----------
    title, description : str
    names : sequence of str
    rows : ndarray, dtype=float64, shape=(n, 5)
    axis : Axis
        Its end is that of the values.
    """
    left, step = _label_width(names, 150.0), 19.0
    height = 8 + step * len(names) + 38
    scale = axis.scale([rows.ravel()], left, _WIDTH - 14)
    frame = Frame(scale, Scale(0, 1, height - 38, 4), axis.title, "", axis.text)
    parts: list[str] = [_vertical_axis(frame, height - 38)]
    for i, name in enumerate(names):
        y = 6 + i * step + step / 2
        q05, q25, q50, q75, q95 = (scale(float(value)) for value in rows[i])
        parts += [
            _label(name, left, y + 3.5),
            tag("line", x1=q05, x2=q95, y1=y, y2=y, stroke=COLOURS[0], stroke_width=1.4),
            tag("rect", x=q25, y=y - 4, width=max(q75 - q25, 1), height=8, rx=2, fill="#8cc1e0"),
            tag("circle", cx=q50, cy=y, r=3.6, fill="#0b3d5c"),
        ]
    return draw(title, description, height, parts)


# --- Heat ------------------------------------------------------------------------------------------


def heatmap(title: str, description: str, data: Bars, *, top: float | None = None) -> Markup:
    """Draw values as shades, rows by name, columns by their number.

    Parameters
    ----------
    title, description : str
    data : Bars
        NaN is left empty. A series is labelled with its text, which should be short.
    top : float, optional
        Value of the darkest shade; default: the largest.
    """
    left = _label_width(data.names)
    n_rows, n_columns = data.values.shape
    wide = min((_WIDTH - left - 6) / max(n_columns, 1), 46.0)
    tall = 15.0 if n_rows > 8 else 22.0
    most = top if top is not None else float(np.nanmax(data.values, initial=0.0))
    every = max(1, math.ceil((max(map(len, data.series), default=1) * 6.2 + 2) / wide))
    parts: list[str] = []
    for k in range(0, n_columns, every):
        parts.append(tag("text", data.series[k], x=left + (k + 0.5) * wide, y=11, class_="tick mid"))
    for i, name in enumerate(data.names):
        y = 16 + i * tall
        parts.append(_label(name, left, y + tall / 2 + 3.5))
        for k in range(n_columns):
            parts.append(_cell(float(data.values[i, k]), most, left + k * wide, y, wide, tall))
    height = 16 + n_rows * tall + 8
    return draw(title, description, height, parts)


def _cell(value: float, most: float, x: float, y: float, wide: float, tall: float) -> Markup:
    if math.isnan(value):
        return Markup("")
    share = min(value / most, 1.0) if most > 0 else 0.0
    # the square root, because most shares are small and should still differ from none
    red, green, blue = (255 - (255 - _DARK) * math.sqrt(share)).astype(int).tolist()
    box = tag("rect", x=x, y=y, width=wide - 1, height=tall - 1, fill=f"#{red:02x}{green:02x}{blue:02x}",
              stroke="#e3e8ec", stroke_width=0.5)  # fmt: skip
    if wide < 34:
        return box
    colour = "#fff" if share > 0.3 else None
    text = tag(
        "text",
        f"{value:.2g}",
        x=x + wide / 2,
        y=y + tall / 2 + 3.2,
        class_="tick mid",
        style=colour and f"fill:{colour}",
    )
    return join(box, text)
