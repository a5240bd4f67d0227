"""What `workers:` means, which of it is refused, and how it is drawn."""

from __future__ import annotations

import sys

import pytest

from lsd.pipeline.config import load_config
from lsd.pipeline.errors import ConfigError, GraphError
from lsd.pipeline.launch import build_graph
from lsd.pipeline.links import memory
from lsd.pipeline.links.table import PAGE, Table
from lsd.pipeline.placement import check_rate, place
from lsd.pipeline.placement_drawing import drawn
from lsd.pipeline.wiring import wired

STAGES = """\
name: trial
rate_hz: 25
stages: {capture: , recall: , diffusion: , memory: , blend: , output: }
feedback: {from: blend, to: [diffusion, memory, blend], delay: 1}
"""
THREE = """\
workers:
  eye: [capture, recall]
  style: {stages: [diffusion, memory, blend], device: cpu, cores: [0]}
  hand: [output]
"""
SPLIT = """\
workers:
  eye: [capture, recall]
  style: [diffusion]
  rest: [memory, blend, output]
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(workers, head=STAGES):
        (tmp_path / "p.yaml").write_text(head + workers)
        return load_config("p.yaml")

    return load


def test_workers_are_lists_or_mappings(config):
    loaded = config(THREE)
    assert loaded.workers["eye"].stages == ["capture", "recall"]
    assert loaded.workers["style"].device == "cpu"
    assert loaded.workers["style"].cores == [0]
    assert config("").workers is None


def test_supervision_has_defaults_and_takes_values(config):
    assert config(THREE).supervision.restart == "on_failure"
    assert config(THREE + "supervision: {max_restarts: 2}\n").supervision.max_restarts == 2


def test_a_config_survives_the_way_to_its_workers(config, tmp_path):
    loaded = config(THREE + "supervision: {max_restarts: 2}\n")
    (tmp_path / "q.json").write_text(loaded.model_dump_json(by_alias=True))
    again = load_config("q.json")
    assert again.model_dump() == loaded.model_dump()


BROKEN = {
    "unknown": (
        "workers:\n  eye: [capture, recal]\n",
        "p.yaml:6:18: no stage is called 'recal'; did you mean 'recall'? (workers.eye[1])",
    ),
    "twice": (
        THREE.replace("[output]", "[blend, output]"),
        "p.yaml:8:10: stage 'blend' is placed twice, first in worker 'style'; remove one "
        "(workers.hand[0])",
    ),
    "missing": (
        THREE.replace("[capture, recall]", "[capture]"),
        "p.yaml:5:1: no worker runs 'recall'; place every stage once (workers)",
    ),
    "order": (
        THREE.replace("[capture, recall]", "[recall, capture]"),
        "p.yaml:6:9: expected stage 'capture' here, got 'recall'; workers take neighbouring "
        "stages, in the order capture, recall, diffusion, memory, blend, output (workers.eye[0])",
    ),
    "not contiguous": (
        "workers:\n  a: [capture, recall, output]\n  b: {stages: [diffusion, memory, blend]}\n",
        "p.yaml:6:24: expected stage 'diffusion' here, got 'output'; workers take neighbouring "
        "stages, in the order capture, recall, diffusion, memory, blend, output (workers.a[2])",
    ),
    "no list": ("workers:\n  eye: capture\n", "p.yaml:6:8: expected mapping, got str 'capture'"),
    "no workers": ("workers: {}\n", "p.yaml:5:10: expected at least 1 entries"),
    "a number as a stage": (
        THREE.replace("recall]", "7]"),
        "p.yaml:6:18: expected str, got int 7 (workers.eye[1])",
    ),
    "an unknown field": (
        THREE.replace("cores", "core"),
        "p.yaml:7:60: unknown field 'core'; did you mean 'cores'? (workers.style.core)",
    ),
    "a device that is none": (
        THREE.replace("device: cpu", "device: gpu"),
        "p.yaml:7:55: expected text that matches",
    ),
    "an unknown field of supervision": (
        THREE + "supervision: {max_restart: 2}\n",
        "p.yaml:9:15: unknown field 'max_restart'; did you mean 'max_restarts'?",
    ),
    "a policy that is none": (
        THREE + "supervision: {restart: on_fail}\n",
        "p.yaml:9:24: expected 'on_failure', 'always' or 'never', got str 'on_fail'; did you mean",
    ),
    "supervision alone": (
        "supervision: {max_restarts: 2}\n",
        "p.yaml:5:1: nothing to supervise without 'workers:' or 'instances:'; add one of them",
    ),
    "costs of another's stage": (
        THREE.replace("cores: [0]", "costs_ms: {recall: 2.0}"),
        "p.yaml:7:71: worker 'style' does not run 'recall'; it runs diffusion, memory, blend "
        "(workers.style.costs_ms.recall)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_mistake_is_one_line_with_its_place(config, name):
    text, message = BROKEN[name]
    with pytest.raises(ConfigError) as caught:
        config(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_links_are_rings_where_workers_meet(config):
    placement = place(config(THREE))
    assert [(link.kind, link.policy, link.capacity) for link in placement.links] == [
        ("inproc", "drop_oldest", 1),
        ("shm", "block", 1),
        ("call", None, 0),
        ("call", None, 0),
        ("shm", "block", 1),
    ]
    assert placement.rings == {
        "recall-diffusion": ("eye", "style"),
        "blend-output": ("style", "hand"),
    }


def test_a_ring_drops_nothing_what_is_late_is_dropped_before_the_captures_own_work(config):
    workers = "workers:\n  eye: [capture]\n  rest: [recall, diffusion, memory, blend, output]\n"
    live, file = place(config(workers)), place(config(workers, STAGES + "live: false\n"))
    assert live.links[0][4:] == ("shm", "block", 1)
    assert file.links[0][4:] == ("shm", "block", 4)
    assert file.links[-1][4:] == ("inproc", "block", 4)


def test_links_are_those_of_one_process_where_nothing_is_cut(config):
    loaded = config("workers:\n  all: [capture, recall, diffusion, memory, blend, output]\n")
    for live in (True, False):
        loaded = loaded.model_copy(update={"live": live})
        expected = [link[2:] for link in build_graph(loaded).links(live=live)]
        assert [(link.capacity, link.policy) for link in place(loaded).links] == expected


def test_a_recurrence_in_one_worker_costs_no_hop(config):
    placement = place(config(THREE))
    assert placement.loop.hops == 0
    assert not placement.is_split
    assert [name for name, _ in placement.loop.stages] == ["diffusion", "memory", "blend"]


def test_a_split_recurrence_costs_its_hops_and_rings_back(config):
    placement = place(config(SPLIT))
    assert placement.loop.hops == 2
    assert placement.rings["previous-style"] == ("rest", "style")
    assert "previous-rest" not in placement.rings
    costs = sum(cost for _, cost in placement.loop.stages)
    assert placement.loop.latency_ms == pytest.approx(costs + 2 * 0.9)
    three = place(
        config("workers:\n  a: [capture, recall, diffusion]\n  b: [memory]\n  c: [blend, output]\n")
    )
    assert three.loop.hops == 3, "two on the way, one back"


FIVE = """\
workers: {a: [capture], b: [recall, diffusion], c: [memory], d: [blend], e: [output]}
"""


def test_a_frame_that_ends_is_told_on_up_to_where_the_recurrence_begins(config):
    assert place(config(FIVE)).in_loop == ("b", "c", "d")
    assert [place(config(FIVE)).relays(name) for name in "abcde"] == [True] * 3 + [False] * 2
    three = place(config(THREE))
    assert three.in_loop == ()
    assert [three.relays(name) for name in ("eye", "style", "hand")] == [True, False, False]
    none = place(config(FIVE, STAGES.partition("feedback")[0]))
    assert not any(none.relays(name) for name in "abcde")


def test_a_death_is_told_by_who_notices_where_nobody_who_waits_would(config):
    told = place(config(FIVE)).reports_loss
    assert [told(name) for name in "abcde"] == [False, False, False, True, False]
    assert not any(map(place(config(SPLIT)).reports_loss, ("eye", "style", "rest")))
    only_blend = STAGES.replace("[diffusion, memory, blend]", "[memory]")
    assert place(config(FIVE, only_blend)).in_loop == ("c", "d")


@pytest.mark.skipif(sys.platform != "linux", reason="rings need Linux")
def test_each_worker_that_is_given_the_past_has_a_ring_and_the_checkpoint_to_read(config):
    loaded = config(FIVE, STAGES.replace("delay: 1", "delay: 3") + "size: 64x64\n")
    fds = wired(loaded, place(loaded))
    parts = ("memory", "filled", "freed")
    for name in ("b", "c"):
        assert [fds[name][f"previous.{part}"] for part in parts] == [
            fds["d"][f"previous-{name}.{part}"] for part in parts
        ]
        assert fds[name]["past"] == fds["d"]["checkpoint"]
        assert fds[name]["checkpoint"] != fds[name]["past"], "what its own stages remember"
        shape = Table(memory.mapped(fds[name]["previous.memory"], PAGE, writable=True)).shape
        assert (shape.policy, shape.capacity) == ("drop_oldest", 3)
    for name in ("a", "d", "e"):
        assert not {"previous.memory", "past"} & fds[name].keys()


@pytest.mark.skipif(sys.platform != "linux", reason="rings need Linux")
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("on_miss: passthrough\n", {"eye", "hand"}),
        ("", set()),
        ("on_miss: passthrough\nlive: false\n", set()),
    ],
)
def test_a_captured_picture_passes_by_the_others_where_it_may_stand_in(config, head, expected):
    loaded = config(THREE, STAGES + head)
    fds = wired(loaded, place(loaded))
    assert {name for name, given in fds.items() if "newest.memory" in given} == expected
    assert len({fds[name]["newest.memory"] for name in expected}) == len(expected) // 2


def test_costs_grow_with_the_picture_unless_they_are_given(config):
    small = place(config(SPLIT)).loop
    large = place(config(SPLIT, STAGES + "size: 512x512\n")).loop
    assert [cost for _, cost in large.stages] == [4 * cost for _, cost in small.stages]
    copying = (large.hop_ms - small.hop_ms) / 3
    assert 0 < copying < small.hop_ms, "waking up takes as long at any size"
    given = SPLIT.replace(
        "style: [diffusion]", "style: {stages: [diffusion], costs_ms: {diffusion: 2.5}}"
    )
    assert place(config(given)).loop.stages[0] == ("diffusion", 2.5)


SLOW = SPLIT.replace(
    "style: [diffusion]", "style: {stages: [diffusion], costs_ms: {diffusion: 38.0}}"
)


def test_a_split_recurrence_that_cannot_make_the_rate_is_refused_with_the_sum(config):
    loaded = config(SLOW)
    with pytest.raises(GraphError) as caught:
        check_rate(loaded, place(loaded))
    assert str(caught.value).startswith(
        "p.yaml:5:1: the recurrence cannot make 25 Hz: once round takes diffusion 38.0 + "
        "memory 0.7 + blend 1.4 + 2 hops 1.8 = 41.9 ms, and frame n needs what left 'blend' "
        "1 period, 40.0 ms, before; put diffusion, memory, blend into one worker, lower rate_hz "
        "to 23.9,"
    )


@pytest.mark.parametrize(
    "head",
    [
        STAGES.replace("rate_hz: 25", "rate_hz: 23.8"),
        STAGES.replace("delay: 1", "delay: 2"),
        STAGES + "live: false\n",
    ],
)
def test_more_time_or_no_rate_makes_it_fit(config, head):
    loaded = config(SLOW, head)
    check_rate(loaded, place(loaded))


def test_workers_taken_away_leave_what_was_said_of_them(config):
    assert config("workers: null\nsupervision: {max_restarts: 2}\n").workers is None


def test_a_slow_recurrence_in_one_worker_drops_frames_and_is_not_refused(config):
    slow = THREE.replace("cores: [0]", "costs_ms: {diffusion: 100.0}")
    check_rate(config(slow), place(config(slow)))


def test_without_a_recurrence_there_is_no_loop(config):
    placement = place(config(SPLIT, STAGES.partition("feedback")[0]))
    assert placement.loop is None
    assert placement.delays == ()
    check_rate(config(SPLIT), placement)


def drawing(config, workers, form):
    loaded = config(workers)
    return drawn(place(loaded), build_graph(loaded), {"style": "cpu"}, form)


def test_text_shows_workers_links_delays_and_the_loop(config):
    assert drawing(config, SPLIT, "text").splitlines() == [
        "[eye]",
        "  capture    uint8 NHWC -> uint8 NHWC",
        "    | drop_oldest 1",
        "  recall     uint8 NHWC -> uint8 NHWC",
        "    | shm, block 1",
        "[style: cpu]",
        "  diffusion  uint8 NHWC -> float32 NCHW",
        "    | shm, block 1",
        "[rest]",
        "  memory     float32 NCHW -> float32 NCHW",
        "    | call",
        "  blend      float32 NCHW -> float32 NCHW",
        "    | block 1",
        "  output     float32 NCHW -> float32 NCHW",
        "",
        "feedback: blend -> diffusion  (previous, delay 1, shm, rest -> style)",
        "feedback: blend -> memory  (previous, delay 1, call)",
        "feedback: blend -> blend  (previous, delay 1, call)",
        "loop: diffusion 7.4 + memory 0.7 + blend 1.4 + 2 hops 1.8 = 11.3 ms, of 40.0 ms",
        "  the recurrence leads through several workers: each hop adds 0.9 ms to every frame; "
        "in one worker it would cost none",
    ]


def test_dot_puts_each_worker_in_a_box(config):
    dot = drawing(config, SPLIT, "dot")
    assert 'subgraph cluster_1 {\n    label="style: cpu";\n    "diffusion";\n  }' in dot
    assert '"recall" -> "diffusion" [label="shm, block 1"];' in dot
    assert '"blend" -> "diffusion" [label="shm, previous, delay 1", style=dashed' in dot
    assert dot.count("{") == dot.count("}")


def test_mermaid_puts_each_worker_in_a_subgraph(config):
    lines = drawing(config, SPLIT, "mermaid").splitlines()
    assert lines[:4] == [
        "flowchart LR", '  subgraph w0["eye"]', '    s0["capture"]', '    s1["recall"]'
    ]  # fmt: skip
    assert lines.count("  end") == 3
    assert '  s4 -.->|"shm, previous, delay 1"| s2' in lines


def test_an_unknown_form_is_refused(config):
    with pytest.raises(GraphError, match="unknown format 'svg'"):
        drawing(config, SPLIT, "svg")
