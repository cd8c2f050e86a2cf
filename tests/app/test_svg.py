"""Charts: places against a slow formula, ticks, what is escaped."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trpo_np.app import svg
from trpo_np.app.plots import Curve


def curve(x, y, label="a", spread=0.0, runs=1):
    x, y = np.array(x, float), np.array(y, float)
    return Curve(label, x, y, y - spread, y + spread, runs)


def points(element):
    return [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]


def of(text, name):
    return [each for each in ET.fromstring(text) if each.get("class", "").split()[:1] == [name]]


def test_what_lies_outside_is_moved_to_the_frame():
    axes = svg.Axes(0, 2, -1, 1)
    assert axes.points([-1, 3, 1], [-9, 9, 0]) == axes.points([0, 2, 1], [-1, 1, 0])


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_few_round_and_inside(low, size):
    high = low + size
    if high - low < 1e-9 * abs(low):
        return
    found = svg.ticks(low, high)
    assert 1 <= len(found) <= 6 and np.all(np.diff(found) > 0)
    assert low - 1e-6 * size <= found[0] and found[-1] <= high + 1e-6 * size
    if len(found) > 1:
        digit = f"{found[1] - found[0]:.0e}"[0]
        assert digit in "125"


@pytest.mark.parametrize("low, high, ticks", [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-1300, -900, [-1300, -1200, -1100, -1000, -900]),
    (5, 95, [20, 40, 60, 80])])
def test_ticks(low, high, ticks):
    assert np.allclose(svg.ticks(low, high), ticks)


@pytest.mark.parametrize("value, text", [(0, "0"), (20_000, "20k"), (1.5e6, "1.5M"), (-0.005, "-0.005"),
                                         (-1100, "-1.1k"), (2e9, "2G")])
def test_numbers_of_an_axis_are_short(value, text):
    assert svg.shown(value) == text


def test_a_curve_stands_at_its_places():
    curves = [(0, curve([0, 50, 100], [0, 10, 5])), (8, curve([0, 100], [2, 4], "b", 1.0, 3))]
    text = svg.chart(curves, "Return")
    first, second = of(text, "line")
    assert first.get("class") == "line c0" and second.get("class") == "line c1"
    assert first.get("stroke-dasharray") == "none" and second.get("stroke-dasharray") == svg.DASHES["--"]
    low, high = -0.4, 10.4  # a little room
    width, height = svg.WIDTH - svg.LEFT - svg.RIGHT, svg.HEIGHT - svg.TOP - svg.BOTTOM
    for (across, down), x, y in zip(points(first), [0, 50, 100], [0, 10, 5]):
        assert across == pytest.approx(svg.LEFT + x / 100 * width, abs=0.1)
        assert down == pytest.approx(svg.TOP + (high - y) / (high - low) * height, abs=0.1)
    [band] = of(text, "band")
    assert len(points(band)) == 4 and band.get("class") == "band c1"
    assert points(band)[0][1] < points(second)[0][1] < points(band)[-1][1]


def test_what_lies_outside_the_axis_is_drawn_on_its_frame():
    text = svg.chart([(0, curve([0, 1, 2], [-50, 0, 0.5]))], "v", lowest=-1.0, highest=1.0)
    [line] = of(text, "line")
    assert points(line)[0][1] == svg.HEIGHT - svg.BOTTOM and points(line)[1][1] < points(line)[0][1]


def test_a_limit_is_a_level_line_that_the_axis_holds():
    text = svg.chart([(0, curve([0, 1], [0.001, 0.002]))], "KL", limit=0.01)
    [limit] = of(text, "limit")
    (_, left), (_, right) = points(limit)
    assert left == right > svg.TOP


def test_one_point_or_a_level_curve_can_be_seen():
    text = svg.chart([(0, curve([5], [3]))], "one")
    assert re.search(r'<circle class="c0" cx="[\d.]+" cy="[\d.]+"', text)
    assert "nan" not in svg.chart([(0, curve([1, 2], [0, 0]))], "level")


def test_names_are_escaped():
    text = svg.chart([(0, curve([0, 1], [0, 1], "</svg><script>"))], '"><b>', "<i>")
    assert "<script" not in text and "<b>" not in text and "<i>" not in text
    ET.fromstring(text)
