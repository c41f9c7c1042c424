"""Scales, ticks and shortened names of charts."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.repertoire.axes import Scale, shortened
from plmsearch.repertoire.charts import Axis, Bars, Series, bars, heatmap, intervals, lines, panels, stacks
from plmsearch.repertoire.markup import Markup, tag

SERIES = Series("a", np.array([1.0, 10.0, 100.0]), np.array([3.0, 2.0, 1.0]), np.ones(3), np.full(3, 4.0), 2)


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e6), st.booleans())
def test_ticks_are_few_and_between_the_ends(low, ratio, log):
    scale = Scale(low, low * ratio, 0, 100, log)
    ticks = scale.ticks()
    assert len(ticks) <= 12
    assert len(ticks) >= 1
    assert all(low * 0.99 <= tick <= low * ratio * 1.01 for tick in ticks)
    places = [scale(tick) for tick in ticks]
    assert places == sorted(places)
    assert 0 <= min(places) <= max(places) <= 100


def test_a_scale_is_linear_or_logarithmic():
    assert Scale(0, 10, 0, 100)(2.5) == 25
    assert Scale(1, 100, 0, 100, log=True)(10) == pytest.approx(50)
    assert Scale(1, 100, 0, 100, log=True)(0.1) == 0


@given(st.text(max_size=80), st.floats(20, 300))
def test_a_shortened_name_fits_and_keeps_both_ends(name, width):
    short = shortened(name, width)
    assert short == name or len(short) <= max(int(width / 6.6), 3)
    assert short[0:1] == name[0:1]
    assert short[-1:] == name[-1:]


@pytest.mark.parametrize(
    "chart",
    [
        lines("t", "d", [SERIES, SERIES], Axis("x", log=True), Axis("y")),
        lines("t", "d", [SERIES], Axis("x"), Axis("y", log=True)),
        panels("t", "d", [SERIES] * 9, Axis("x", log=True), Axis("y", low=0.0))[0],
        bars("t", "d", Bars(["n"], ["s"], np.array([[0.0]]))),
        stacks("t", "d", Bars(["n"], ["a", "b"], np.array([[0.25, 0.75]]))),
        heatmap("t", "d", Bars(["n", "m"], ["1"], np.array([[np.nan], [0.0]]))),
        intervals("t", "d", ["n"], np.zeros((1, 5)), Axis("x", low=0.0)),
    ],
    ids=["lines", "log", "panels", "bars", "stacks", "heatmap", "intervals"],
)
def test_every_place_in_a_chart_is_a_number_within_it(chart):
    """Empty and equal values too."""
    _, _, width, height = map(float, re.search(r'viewBox="([^"]+)"', chart)[1].split())
    assert "nan" not in chart
    assert "inf" not in chart
    for name, most in (("x1", width), ("x2", width), ("cx", width), ("y1", height), ("cy", height)):
        for value in map(float, re.findall(rf' {name}="([^"]*)"', chart)):
            assert 0 <= value <= most
            assert math.isfinite(value)


def test_parts_of_a_stack_fill_it():
    chart = stacks("t", "d", Bars(["n"], ["a", "b"], np.array([[0.25, 0.75]])))
    widths = [float(w) for w in re.findall(r'<rect [^>]*?width="([\d.]+)"', chart)]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01)
    assert sum(widths) == pytest.approx(330, abs=0.1)


def test_only_markup_is_not_escaped():
    assert tag("p", "<b>", Markup("<i></i>"), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;<i></i></p>'
