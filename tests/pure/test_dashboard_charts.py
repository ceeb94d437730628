"""Stacked bars: the axis, the order and the colours of the series, what is drawn and what is only told."""

import pytest

from quantized.dashboard.charts import HEIGHT, OTHERS, SERIES_MAX, WIDTH, axis_top, stacked

DAYS = ["1 May", "2 May"]


@pytest.mark.parametrize(
    ("most", "top"),
    [(0, 1), (1, 1), (9, 10), (10, 10), (11, 15), (16, 20), (21, 25), (26, 30), (99, 100), (101, 150), (7_300, 8_000)],
)
def test_the_axis_ends_at_the_next_round_figure(most: int, top: int):
    assert axis_top(most) == top


def test_bars_stand_on_each_other_from_zero():
    chart = stacked(DAYS, {(0, "a"): 30, (0, "b"): 10, (1, "b"): 20})
    first, second = chart.days
    assert (chart.top, chart.half, chart.total) == (40, 20, 60)
    assert [(bar.series, bar.y, bar.height) for bar in first.bars] == [(0, 50, 150), (1, 0, 50)]
    assert [(bar.series, bar.y, bar.height) for bar in second.bars] == [(1, 100, 100)]
    assert all(bar.y + bar.height <= HEIGHT and 0 < bar.x < WIDTH for day in chart.days for bar in day.bars)
    assert second.cells == [("a", 0), ("b", 20)]
    assert second.parts == [("b", 20)]


def test_the_dearest_come_first_and_the_rest_together_last():
    amounts = {(0, f"model-{number}"): 100 - number for number in range(SERIES_MAX + 3)}
    chart = stacked(DAYS, amounts)
    assert [series.name for series in chart.series] == [*(f"model-{number}" for number in range(SERIES_MAX)), OTHERS]
    assert [series.number for series in chart.series] == list(range(SERIES_MAX + 1))
    assert chart.series[-1].total == 94 + 93 + 92
    assert chart.total == sum(amounts.values())


def test_one_series_alone_keeps_its_colour_and_the_legend():
    chart = stacked(DAYS, {(0, "a"): 30, (0, "b"): 10}, only="b")
    assert [(series.name, series.is_shown) for series in chart.series] == [("a", False), ("b", True)]
    assert [bar.series for bar in chart.days[0].bars] == [1]
    assert (chart.top, chart.total) == (10, 10)
    assert stacked(DAYS, {(0, "a"): 30}, only="unknown").total == 30


def test_what_was_given_back_is_told_and_not_drawn():
    chart = stacked(DAYS, {(0, "a"): -30, (0, "b"): 10})
    assert chart.days[0].total == -20
    assert [(bar.height) for bar in chart.days[0].bars] == [HEIGHT]


def test_days_without_a_call_are_empty_and_not_left_out():
    chart = stacked(DAYS, {})
    assert (chart.is_empty, len(chart.days), chart.days[0].bars) == (True, 2, [])
    assert stacked([], {}).days == []
