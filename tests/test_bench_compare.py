import json

import pytest

from lsd.pipeline.bench_compare import FORMAT, compared, differences, ratio, read_result
from lsd.pipeline.errors import ConfigError


def times(p50, p99=None):
    return {"p50": p50, "p95": p50, "p99": p50 if p99 is None else p99}


def result(whole=10.0, stages=None, machine=None, run=None):
    return {
        "format": FORMAT,
        "machine": {"cpu": "a", "packages": {"torch": "2"}, "load": 0.1, **(machine or {})},
        "run": {"size": "256x256", **(run or {})},
        "whole_ms": times(whole, 2 * whole),
        "stages": {
            name: {"service_ms": times(p50)} for name, p50 in (stages or {"blend": 4.0}).items()
        },
        "overhead_ms": times(1.0),
    }


def test_rows_have_old_new_and_the_ratio_of_each_part():
    old, new = result(10.0, {"blend": 4.0}), result(15.0, {"blend": 1.0})
    rows = compared(old, new)
    assert [row["ms"] for row in rows] == ["a frame", "blend", "the rest"]
    assert [row["ratio p50"] for row in rows] == ["1.50", "0.25", "1.00"]
    assert (rows[0]["old p99"], rows[0]["new p99"]) == ("20.00", "30.00")
    assert ratio(old, new) == 1.5


def test_stage_that_only_one_of_them_has_is_shown_without_a_ratio():
    rows = compared(result(stages={"recall": 1.0}), result(stages={"blend": 2.0}))
    cells = {row["ms"]: (row["old p50"], row["new p50"], row["ratio p50"]) for row in rows}
    assert cells["blend"] == ("-", "2.00", "-")
    assert cells["recall"] == ("1.00", "-", "-")


def test_part_that_took_nothing_has_no_ratio():
    assert ratio(result(0.0), result(1.0)) is None
    assert compared(result(0.0), result(1.0))[0]["ratio p50"] == "-"


def test_differences_of_machine_and_run_are_named_but_not_the_load():
    new = result(
        machine={"cpu": "b", "packages": {"torch": "3"}, "load": 5.0}, run={"size": "64x64"}
    )
    assert differences(result(), new) == [
        "machine cpu: a -> b",
        "machine packages torch: 2 -> 3",
        "run size: 256x256 -> 64x64",
    ]
    assert differences(result(), result()) == []


def test_difference_is_also_what_one_of_them_lacks():
    assert differences(result(run={"x": 1}), result(run={"y": 2})) == [
        "run y: None -> 2",
        "run x: 1 -> None",
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no JSON"),
        ("[1]", "expected a file that `livesd bench -o` has written"),
        (json.dumps({"machine": {}}), "got format None"),
    ],
)
def test_other_files_are_refused(tmp_path, content, complaint):
    path = tmp_path / "old.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=f"^--compare .*old.json: .*{complaint}"):
        read_result(path)
