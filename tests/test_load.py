from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.load import TRACES, Load, Piece, load_of

S = 1_000_000_000


def file_of(tmp_path, text):
    path = tmp_path / "load.csv"
    path.write_text(text)
    return str(path)


def test_work_that_a_change_meets_half_done_goes_on_at_the_new_speed():
    load = Load("twice", [Piece(0, 1.0), Piece(1, 2.0), Piece(2, 0.5)])
    assert load.end_ns(0, S) == S
    assert load.end_ns(S // 2, S) == 2 * S
    assert load.end_ns(S, S) == 2 * S + S // 4
    assert load.end_ns(5 * S, S) == 5 * S + S // 2


def test_piece_holds_from_its_start_on():
    load = Load("twice", [Piece(0, 1.0, 3.0), Piece(1, 2.0, 4.0)])
    assert [load.at(when).factor for when in (0, S - 1, S, 9 * S)] == [1, 1, 2, 2]
    assert load.at(S).motion_px == 4.0


def test_changes_are_those_of_the_factor():
    load = Load("still", [Piece(0, 1.0), Piece(1, 1.0, 0.0), Piece(2, 1.5), Piece(3, 1.5)])
    assert load.changes_ns == [2 * S]


pieces = st.lists(
    st.tuples(st.integers(1, 500), st.floats(0.1, 10)), min_size=0, max_size=8
)  # fmt: skip


@given(pieces, st.integers(0, 2 * S), st.integers(0, S), st.integers(0, S))
def test_who_begins_later_or_has_more_to_do_never_ends_earlier(parts, start, later, work):
    times, made = 0.0, [Piece(0, 1.0)]
    for length, factor in parts:
        times += length / 1000
        made.append(Piece(times, factor))
    load = Load("any", made)
    end = load.end_ns(start, work)
    assert end >= start
    assert load.end_ns(start + later, work) >= end
    assert load.end_ns(start, work + later) >= end
    assert load.end_ns(start, 0) == start


@given(st.sampled_from(sorted(TRACES)), st.integers(0, 2**32), st.floats(2, 120))
def test_built_in_traces_are_functions_of_the_seed(name, seed, seconds):
    load = load_of(name, seconds, seed)
    assert load.pieces == load_of(name, seconds, seed).pieces
    assert (load.name, load.pieces[0]) == (name, load.pieces[0])
    assert all(0.99 <= piece.factor <= 2.0 for piece in load.pieces)
    assert load.pieces[-1].start_s <= seconds + 2.4


def test_step_is_of_sixty_percent_and_ends():
    load = load_of("step", 60, 0)
    assert load.pieces == (Piece(0, 1.0), Piece(10, 1.6), Piece(40, 1.0))


def test_ramp_rises_to_twice_and_falls_evenly():
    factors = [load_of("ramp", 60, 0).at(round(t * S)).factor for t in (0, 15, 29.99, 45, 59.99)]
    assert factors == pytest.approx([1, 1.5, 2, 1.5, 1], abs=0.01)


@pytest.mark.parametrize("name", ["bursts", "flurry", "neighbour", "thermal"])
def test_drawn_traces_differ_by_seed(name):
    assert load_of(name, 60, 1).pieces != load_of(name, 60, 2).pieces


@pytest.mark.parametrize(("name", "fewest", "most"), [("bursts", 9, 21), ("flurry", 14, 43)])
def test_bursts_come_and_go(name, fewest, most):
    factors = [piece.factor for piece in load_of(name, 60, 0).pieces]
    assert factors[::2] == [1.0] * len(factors[::2])
    assert all(1.6 <= factor <= 2.0 for factor in factors[1::2])
    assert fewest <= len(factors) // 2 <= most


def test_neighbour_runs_half_of_the_time():
    pieces = load_of("neighbour", 60, 0).pieces
    assert [piece.factor > 1 for piece in pieces[1:9]] == [True, False] * 4
    lengths = [b.start_s - a.start_s for a, b in pairwise(pieces[1:])]
    assert all(0.02 <= length <= 0.2 for length in lengths)


def test_thermal_throttling_begins_at_a_quarter_and_stays():
    pieces = load_of("thermal", 60, 0).pieces
    assert (pieces[0].factor, pieces[1].start_s) == (1.0, 15)
    assert all(1.25 <= piece.factor <= 1.5 for piece in pieces[1:])


def test_steady_trace_never_changes():
    assert load_of("steady", 60, 0).changes_ns == []


def test_file_is_read(tmp_path):
    load = load_of(file_of(tmp_path, "time_s,factor,motion\n0,1,0.5\n\n2.5, 1.6 ,0\n"), 60, 0)
    assert load.pieces == (Piece(0, 1.0, 0.5), Piece(2.5, 1.6, 0.0))
    assert load.name == "load.csv"


def test_file_without_motion_moves(tmp_path):
    assert load_of(file_of(tmp_path, "time_s,factor\n0,1\n"), 60, 0).pieces == (Piece(0, 1.0),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: expected the header time_s,factor or time_s,factor,motion, got ''; put it"),
        ("t,f\n0,1\n", "1: expected the header time_s,factor or .*, got 't,f'; put it"),
        ("time_s,factor\n", "2: expected a row of numbers, got none; add one such as 0,1.0"),
        ("time_s,factor\n0,1\n1\n", "3: expected 2 cells .time_s,factor., got 1; give every row"),
        ("time_s,factor\n0,x\n", "2: expected factor to be a number from 0.01 .*, got 'x'; 1 is"),
        ("time_s,factor\n0,0\n", "2: expected factor to be a number from 0.01 .*, got '0'; 1 is"),
        ("time_s,factor\n0,nan\n", "2: expected factor to be a number .*, got 'nan'; 1 is"),
        ("time_s,factor\n0,inf\n", "2: expected factor to be a number .*, got 'inf'; 1 is"),
        ("time_s,factor\n-1,1\n", "2: expected time_s to be a number from 0 .*, got '-1'; give"),
        ("time_s,factor\n1,1\n", "2: expected time_s 0 in the first row, got '1'; say what"),
        ("time_s,factor\n0,1\n\n2,1\n2,1\n", "5: expected time_s above 2, got '2'; sort the rows"),
        ("time_s,factor,motion\n0,1,-2\n", "2: expected motion to be .*, got '-2'; give the mean"),
    ],
)
def test_broken_file_is_told_with_its_line(tmp_path, text, message):
    path = file_of(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"load\.csv:{message}") as caught:
        load_of(path, 60, 0)
    assert str(caught.value).startswith(f"{path}:")


def test_binary_file_is_told(tmp_path):
    path = tmp_path / "load.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"load\.csv: got .*, expected a CSV file in UTF-8"):
        load_of(str(path), 60, 0)


def test_missing_file_is_told():
    with pytest.raises(ConfigError, match=r"^none/at/all\.csv: cannot be read: No such file"):
        load_of("none/at/all.csv", 60, 0)


def test_misspelt_trace_is_told():
    with pytest.raises(ConfigError, match=r"no file and no built-in trace .* did you mean 'step'"):
        load_of("stepp", 60, 0)
