import pytest
from fakes import ANY, CollectingSink, FakeCompute, FakeSource

from lsd.pipeline.errors import GraphError
from lsd.pipeline.frame import TENSOR
from lsd.pipeline.graph import FeedbackEdge, Graph


def chain(*names, feedback=None):
    return Graph([FakeSource(), *map(FakeCompute, names), CollectingSink()], feedback)


def test_source_stages_and_sink_in_order_fit_together():
    chain("diffusion", "blend", feedback=FeedbackEdge("blend", ("diffusion", "blend"))).check()


def test_source_and_sink_alone_fit_together():
    chain().check()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], r"got 0 stage\(s\) \(none\), expected at least a source and a sink"),
        ([FakeSource()], r"got 1 stage\(s\) \(capture\)"),
        ([FakeCompute("blend"), CollectingSink()], "'blend' is no source; the first stage"),
        ([FakeSource(), FakeCompute("blend")], "'blend' is no sink; the last stage"),
        (
            [FakeSource(), FakeSource(name="second"), CollectingSink()],
            "'second' is a source; the first stage, and only the first",
        ),
        (
            [FakeSource(), CollectingSink(name="early"), CollectingSink()],
            "'early' is a sink; the last stage, and only the last",
        ),
        (
            [FakeSource(), FakeCompute("blend"), FakeCompute("blend"), CollectingSink()],
            "two stages are named 'blend'",
        ),
    ],
)
def test_wrong_ends_are_named(stages, message):
    with pytest.raises(GraphError, match=message):
        Graph(stages).check()


def test_neighbours_that_do_not_speak_the_same_format_are_named():
    blend = FakeCompute("blend")
    blend.accepts = TENSOR
    with pytest.raises(
        GraphError, match="'blend' accepts float32 NCHW, but 'capture' before it returns uint8 NHWC"
    ):
        Graph([FakeSource(), blend, CollectingSink()]).check()


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        (FeedbackEdge("blnd", ("blend",)), "no stage is named 'blnd'; the stages are capture, "),
        (FeedbackEdge("blend", ("nobody",)), "no stage is named 'nobody'"),
        (FeedbackEdge("blend", ()), "from 'blend' goes nowhere"),
        (FeedbackEdge("blend", ("blend",), delay=0), "delay is 0, expected 1 or more"),
        (FeedbackEdge("diffusion", ("blend",)), "'diffusion' to 'blend' points forward"),
        (FeedbackEdge("output", ("blend",)), "'output' cannot be the sink; .* 'blend'"),
    ],
)
def test_impossible_feedback_is_refused(edge, message):
    with pytest.raises(GraphError, match=message):
        chain("diffusion", "blend", feedback=edge).check()


def test_live_graph_keeps_the_newest_frame_behind_the_source():
    first, *inside, last = chain("a", "b").links(live=True)
    assert (first.policy, first.capacity) == ("drop_oldest", 1)
    assert [link.policy for link in inside] == [None]
    assert (last.source, last.policy) == ("b", "block")


def test_file_graph_drops_nowhere():
    assert {link.policy for link in chain("a", "b").links(live=False)} == {"block", None}


EDGE = FeedbackEdge("blend", ("diffusion", "blend"), delay=2)


def test_text_shows_stages_links_and_the_delay():
    text = chain("diffusion", "blend", feedback=EDGE).describe()
    assert text.splitlines() == [
        f"capture    {ANY} -> {ANY}",
        "  | drop_oldest 1",
        f"diffusion  {ANY} -> {ANY}",
        "  | call",
        f"blend      {ANY} -> {ANY}",
        "  | block 1",
        f"output     {ANY} -> {ANY}",
        "",
        "feedback: blend -> diffusion, blend  (previous, delay 2)",
    ]


def test_text_of_a_file_graph_shows_its_own_links():
    assert "block 4" in chain("blend").describe("text", live=False)


def test_dot_draws_the_delay_edge_dashed():
    dot = chain("diffusion", "blend", feedback=EDGE).describe("dot")
    assert dot.startswith("digraph lsd {")
    assert '"capture" -> "diffusion" [label="drop_oldest 1"];' in dot
    assert '"blend" -> "diffusion" [label="previous, delay 2", style=dashed' in dot
    assert dot.endswith("}")


def test_mermaid_survives_a_stage_named_by_a_keyword():
    mermaid = chain("end", feedback=FeedbackEdge("end", ("end",))).describe("mermaid")
    assert mermaid.splitlines() == [
        "flowchart LR",
        '  s0["capture"]',
        '  s1["end"]',
        '  s2["output"]',
        '  s0 -->|"drop_oldest 1"| s1',
        '  s1 -->|"block 1"| s2',
        '  s1 -.->|"previous, delay 1"| s1',
    ]


def test_unknown_format_is_refused():
    with pytest.raises(GraphError, match="unknown format 'svg'; use text, dot or mermaid"):
        chain().describe("svg")
