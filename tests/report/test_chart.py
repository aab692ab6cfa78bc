"""Charts: well-formed SVG whose points lie where the values say."""

import xml.etree.ElementTree as ElementTree

import pytest

from lightning_ssl_theory.report.chart import Line, line_chart, sparkline


def parsed(html):
    return ElementTree.fromstring(f"<div>{getattr(html, 'html', html)}</div>")


def points(html):
    lines = parsed(html).iter("polyline")
    return [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in lines]


def test_points_rise_with_values_and_steps():
    (line,) = points(line_chart([Line("a", [0, 1, 2], [1.0, 3.0, 2.0])], unit="x"))
    assert line[0][0] < line[1][0] < line[2][0]
    assert line[1][1] < line[2][1] < line[0][1]  # y grows downwards in SVG
    assert line[1][0] - line[0][0] == pytest.approx(line[2][0] - line[1][0])


def test_legend_holds_every_line_with_its_last_value():
    html = line_chart([Line("a", [0, 1], [0.1, 0.25]), Line("b", [0], [0.5], 1)], unit="%", scale="share")
    texts = ["".join(item.itertext()) for item in parsed(html).iter("li")]
    assert texts == ["a 25.0 %", "b 50.0 %"]


def test_names_are_escaped():
    html = line_chart([Line('<b>&"', [0], [1.0])], unit="<i>")
    assert '<b>&"' not in html.html
    parsed(html)


def test_one_point_flat_lines_and_bands_are_drawn():
    html = line_chart([Line("a", [5], [0.0]), Line("b", [5, 6], [0.0, 0.0], 1, (0.1, 0.1))], unit="x")
    assert len(points(html)) == 2
    assert len(list(parsed(html).iter("polygon"))) == 1


def test_band_on_a_log_axis_does_not_fall_below_the_smallest_value():
    html = line_chart([Line("a", [0, 1], [1.0, 100.0], 0, (2.0, 2.0))], unit="x", scale="log")
    (band,) = parsed(html).iter("polygon")
    assert "nan" not in band.get("points")


def test_long_series_are_drawn_as_their_course_with_the_extremes_around_it():
    values = [i % 2 for i in range(10_000)]
    values[6_000] = 7
    chart = line_chart([Line("a", range(10_000), values)], unit="x")
    (line,) = points(chart)
    assert (len(line), chart.num_each) == (240, 42)
    heights = [y for _, y in line[1:-1]]
    assert max(heights) - min(heights) < 0.05 * 160  # the alternation is averaged away
    (band,) = parsed(chart).iter("polygon")
    highest = min(float(point.split(",")[1]) for point in band.get("points").split())
    assert highest == points(line_chart([Line("a", [0, 1], [0, 7])], unit="x"))[0][1][1]  # where a 7 is


def test_only_what_can_be_switched_is_a_button():
    def buttons(html):
        return [button.get("data-line") for button in parsed(html).iter("button")]

    assert buttons(line_chart([Line("a", [0], [1.0]), Line("b", [0], [2.0])], unit="x")) == ["0", "1"]
    assert buttons(line_chart([Line("a", [0], [1.0])], unit="x")) == []
    assert buttons(line_chart([Line(str(k), [0, 1], [k, k], k) for k in range(5)], unit="x", ramp=True)) == []


def test_readers_who_do_not_see_it_hear_what_it_shows():
    (chart,) = parsed(line_chart([Line("a", [0], [1.0]), Line("b", [0], [1.0])], unit="", title="Rank")).iter(
        "svg"
    )
    assert chart.get("aria-label") == "Rank over step: a, b"
    assert chart.get("role") == "img"


def test_ramp_shows_first_and_last_in_its_legend():
    html = line_chart([Line(str(k), [0, 1], [k, k], k) for k in range(5)], unit="x", ramp=True)
    assert ["".join(i.itertext()).split()[0] for i in parsed(html).iter("li")] == ["0", "4"]


def test_more_lines_than_colours_are_dashed():
    html = line_chart([Line("a", [0], [1.0], 9)], unit="x")
    assert "--c:var(--c1);--d:5 3" in html.html


def test_sparkline_ends_at_its_marker():
    html = sparkline([1.0, 2.0, 4.0])
    (line,) = points(html)
    assert line[-1] == (98.0, 4.0)
    assert "left:98.0%" in html
