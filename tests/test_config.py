from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest

from lsd.pipeline.config import PipelineConfig, load_config
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import RungSpec
from lsd.pipeline.overrides import SetOption, SetPath
from lsd.pipeline.params import StageOptions, live_field, restart_field
from lsd.pipeline.registry import Registry


class CaptureOptions(StageOptions):
    input: str = restart_field("test://bars", "where pictures come from")
    fit: Literal["crop", "pad"] = restart_field("crop", "how a picture is made to fit")
    loop: bool = restart_field(False, "start again at the end")


class DiffusionOptions(StageOptions):
    prompt: str = live_field("", "text", max_length=20)
    styles: dict[str, float] = live_field({}, "weights")
    strength: float = live_field(1.0, "how much", ge=0, le=1)
    steps: int = live_field(1, "denoise steps", ge=1, le=20)
    seed: int = live_field(7, "seed", ge=0)


class OutputOptions(StageOptions):
    outputs: tuple[str, ...] = restart_field((), "where pictures go", max_length=8)


def _kind(options: type[StageOptions]) -> Any:
    return type("FakeStage", (), {"Options": options})


REGISTRY = Registry(
    {
        "capture": _kind(CaptureOptions),
        "diffusion": _kind(DiffusionOptions),
        "output": _kind(OutputOptions),
    }
)

GOOD = """\
name: demo
size: 256x128
rate_hz: 30
stages:
  capture: {input: "test://bars", fit: pad}
  diffusion:
    prompt: neon
    steps: 2
  output:
feedback: {from: diffusion, to: [diffusion]}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def load(content: str | bytes, *overrides: Any) -> PipelineConfig:
        data = content.encode() if isinstance(content, str) else content
        Path("p.yaml").write_bytes(data)
        return load_config("p.yaml", overrides, REGISTRY)

    return load


def test_a_good_file_becomes_typed_options(config: Any) -> None:
    loaded = config(GOOD)
    assert loaded.size == Size(256, 128)
    assert loaded.rate_hz == 30.0
    assert list(loaded.stages) == ["capture", "diffusion", "output"]
    assert isinstance(loaded.stages["diffusion"], DiffusionOptions)
    assert loaded.stages["diffusion"].steps == 2
    assert loaded.stages["output"].kind == "output"
    assert loaded.feedback.source == "diffusion"
    assert loaded.feedback.to == ["diffusion"]


def test_kind_lets_two_stages_share_a_class(config: Any) -> None:
    text = "stages:\n  first: {kind: diffusion, steps: 3}\n  second: {kind: diffusion}\n"
    loaded = config(text)
    assert [stage.steps for stage in loaded.stages.values()] == [3, 1]


# content -> the whole message; each is one line or several, never a traceback.
BROKEN: dict[str, tuple[str | bytes, str]] = {
    "wrong type": (
        GOOD.replace("steps: 2", "steps: two"),
        "p.yaml:8:12: expected int, got str 'two' (stages.diffusion.steps)",
    ),
    "quoted number": (
        GOOD.replace("steps: 2", 'steps: "2"'),
        "p.yaml:8:12: expected int, got str '2' (stages.diffusion.steps)",
    ),
    "float for int": (
        GOOD.replace("steps: 2", "steps: 2.5"),
        "p.yaml:8:12: expected int, got float 2.5 (stages.diffusion.steps)",
    ),
    "bool for int": (
        GOOD.replace("steps: 2", "steps: true"),
        "p.yaml:8:12: expected int, got bool True (stages.diffusion.steps)",
    ),
    "too large": (
        GOOD.replace("steps: 2", "steps: 99"),
        "p.yaml:8:12: expected at most 20, got int 99 (stages.diffusion.steps)",
    ),
    "too small": (
        GOOD.replace("rate_hz: 30", "rate_hz: 0"),
        "p.yaml:3:10: expected at least 1, got int 0 (rate_hz)",
    ),
    "yes for a bool": (
        GOOD.replace("fit: pad", "loop: yes"),
        "p.yaml:5:41: expected bool (true or false), got str 'yes' (stages.capture.loop)",
    ),
    "unknown choice": (
        GOOD.replace("fit: pad", "fit: crob"),
        "p.yaml:5:40: expected 'crop' or 'pad', got str 'crob'; did you mean 'crop'? "
        "(stages.capture.fit)",
    ),
    "number for text": (
        GOOD.replace("prompt: neon", "prompt: 5"),
        "p.yaml:7:13: expected str, got int 5 (stages.diffusion.prompt)",
    ),
    "nothing for text": (
        GOOD.replace("prompt: neon", "prompt:"),
        "p.yaml:7:5: expected str, got nothing (stages.diffusion.prompt)",
    ),
    "text too long": (
        GOOD.replace("neon", "a long prompt that does not end"),
        "p.yaml:7:13: expected at most 20 characters, got str 'a long prompt that does not end' "
        "(stages.diffusion.prompt)",
    ),
    "text for a list": (
        GOOD.replace("  output:", "  output: {outputs: a.mp4}"),
        "p.yaml:9:21: expected list, got str 'a.mp4' (stages.output.outputs)",
    ),
    "wrong entry of a list": (
        GOOD.replace("  output:", "  output: {outputs: [a.mp4, 3]}"),
        "p.yaml:9:29: expected str, got int 3 (stages.output.outputs[1])",
    ),
    "too many entries": (
        GOOD.replace("  output:", f"  output: {{outputs: {['a'] * 9}}}"),
        "p.yaml:9:21: expected at most 8 entries, got list "
        "['a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a'] (stages.output.outputs)",
    ),
    "wrong weight": (
        GOOD.replace("prompt: neon", "styles: {neon: much}"),
        "p.yaml:7:20: expected float, got str 'much' (stages.diffusion.styles.neon)",
    ),
    "unknown option": (
        GOOD.replace("steps: 2", "stepz: 2"),
        "p.yaml:8:5: unknown field 'stepz'; did you mean 'steps'? (stages.diffusion.stepz)",
    ),
    "unknown option without a likeness": (
        GOOD.replace("fit: pad", "q: 1"),
        "p.yaml:5:35: unknown field 'q'; the fields are kind, input, fit, loop (stages.capture.q)",
    ),
    "unknown field at the top": (
        GOOD.replace("rate_hz", "rate"),
        "p.yaml:3:1: unknown field 'rate'; did you mean 'rate_hz'? (rate)",
    ),
    "unknown kind from the name": (
        GOOD.replace("  output:", "  outputs:"),
        "p.yaml:9:3: unknown stage kind 'outputs'; did you mean 'output'? (stages.outputs)",
    ),
    "unknown kind": (
        GOOD.replace("prompt: neon", "kind: difusion"),
        "p.yaml:7:11: unknown stage kind 'difusion'; did you mean 'diffusion'? "
        "(stages.diffusion.kind)",
    ),
    "kind of a wrong type": (
        GOOD.replace("prompt: neon", "kind: 3"),
        "p.yaml:7:11: expected str, got int 3 (stages.diffusion.kind)",
    ),
    "stage that is a list": (
        GOOD.replace("  output:", "  output: [a.mp4]"),
        "p.yaml:9:11: expected mapping, got list ['a.mp4'] (stages.output)",
    ),
    "stage name with a dot": (
        GOOD.replace("  output:", "  out.put: {kind: output}"),
        "p.yaml:9:3: expected text that matches ^[A-Za-z][A-Za-z0-9_-]{0,31}$, got str 'out.put' "
        "(stages.out.put)",
    ),
    "stages as a list": (
        "stages:\n  - capture\n",
        "p.yaml:2:3: expected mapping, got list ['capture'] (stages)",
    ),
    "no stages": ("name: x\n", "p.yaml:1:1: the field 'stages' is missing (stages)"),
    "empty stages": (
        "stages: {}\n",
        "p.yaml:1:9: expected at least 1 entries, got a mapping with nothing in it (stages)",
    ),
    "size off the grid": (
        GOOD.replace("256x128", "250x128"),
        "p.yaml:2:7: expected sides that are multiples of 16 from 64 to 1024, got 250x128; the "
        "nearest is 256x128 (size)",
    ),
    "size too large": (
        GOOD.replace("256x128", "4096x128"),
        "p.yaml:2:7: expected sides that are multiples of 16 from 64 to 1024, got 4096x128; the "
        "nearest is 1024x128 (size)",
    ),
    "size as a number": (
        GOOD.replace("256x128", "256"),
        "p.yaml:2:7: expected WIDTHxHEIGHT such as 256x256, got 256 (size)",
    ),
    "unknown device": (
        GOOD.replace("rate_hz: 30", "device: gpu"),
        "p.yaml:3:9: expected text that matches ^(auto|cpu|cuda:\\d{1,2})$, got str 'gpu' (device)",
    ),
    "ladder of another kind": (
        GOOD.replace("rate_hz: 30", "ladder: fast"),
        "p.yaml:3:9: expected auto, off or rungs such as [{steps: 2}, {steps: 1, size: 192x192}, "
        "reuse], got str 'fast' (ladder)",
    ),
    "ladder without rungs": (
        GOOD.replace("rate_hz: 30", "ladder: []"),
        "p.yaml:3:9: expected at least 1 entries, got list [] (ladder)",
    ),
    "rung with an unknown field": (
        GOOD.replace("rate_hz: 30", "ladder: [{steps: 2}, {step: 1}]"),
        "p.yaml:3:23: unknown field 'step'; did you mean 'steps'? (ladder[1].step)",
    ),
    "rung of an odd size": (
        GOOD.replace("rate_hz: 30", "ladder: [{size: 190x128}]"),
        "p.yaml:3:17: expected sides that are multiples of 16 from 64 to 1024, got 190x128; the "
        "nearest is 192x128 (ladder[0].size)",
    ),
    "rung that is larger than the pipeline": (
        GOOD.replace("rate_hz: 30", "ladder: [{steps: 1}, {size: 128x256}]"),
        "p.yaml:3:29: expected at most the pipeline's size 256x128, got 128x256 (ladder[1].size)",
    ),
    "rung of no steps": (
        GOOD.replace("rate_hz: 30", "ladder: [{steps: 0}]"),
        "p.yaml:3:18: expected at least 1, got int 0 (ladder[0].steps)",
    ),
    "rung that is no rung": (
        GOOD.replace("rate_hz: 30", "ladder: [{steps: 1}, 7]"),
        "p.yaml:3:22: expected reuse or a mapping with steps and size, got int 7 (ladder[1])",
    ),
    "reuse in the middle": (
        GOOD.replace("rate_hz: 30", "ladder: [{steps: 2}, reuse, {steps: 1}]"),
        "p.yaml:3:22: expected reuse as the last rung; no stream stays on it (ladder[1])",
    ),
    "nothing but the reuse": (
        GOOD.replace("rate_hz: 30", "ladder: [reuse]"),
        "p.yaml:3:10: expected a rung that makes a picture before reuse (ladder[0])",
    ),
    "rung below the best": (
        GOOD.replace("rate_hz: 30", "hold: -1"),
        "p.yaml:3:7: expected at least 0, got int -1 (hold)",
    ),
    "feedback to nowhere": (
        GOOD.replace("to: [diffusion]", "to: [difusion]"),
        "p.yaml:10:34: no stage is called 'difusion'; did you mean 'diffusion'? (feedback.to[0])",
    ),
    "feedback from nowhere": (
        GOOD.replace("from: diffusion", "from: x"),
        "p.yaml:10:18: no stage is called 'x'; the stages are capture, diffusion, output "
        "(feedback.from)",
    ),
    "feedback without a source": (
        GOOD.replace("from: diffusion, ", ""),
        "p.yaml:10:1: the field 'from' is missing (feedback.from)",
    ),
    "not a number": (
        GOOD.replace("rate_hz: 30", "rate_hz: .nan"),
        "p.yaml:3:10: expected a finite number, got .nan",
    ),
    "key given twice": (
        GOOD.replace("steps: 2", "steps: 2\n    steps: 3"),
        "p.yaml:9:5: 'steps' is given twice, first in line 8; remove one",
    ),
    "tab": (
        GOOD.replace("    steps", "\tsteps"),
        "p.yaml:8:1: a tab is used for indentation; YAML wants spaces",
    ),
    "open bracket": (
        "stages: [1, 2\n",
        "p.yaml:2:1: broken YAML: expected ',' or ']', but got '<stream end>' "
        "(while parsing a flow sequence)",
    ),
    "open quote": (
        "name: 'x\n",
        "p.yaml:2:1: broken YAML: found unexpected end of stream (while scanning a quoted scalar)",
    ),
    "text with a colon": (
        "name: a: b\n",
        "p.yaml:1:8: unexpected ':' (is the indentation right? a text with ': ' in it needs "
        "quotes)",
    ),
    "line without a colon": (
        "name: x\nstages\nlive: true\n",
        "p.yaml:3:1: broken YAML: could not find expected ':' (while scanning a simple key)",
    ),
    "unknown alias": ("name: *x\n", "p.yaml:1:7: broken YAML: found undefined alias 'x'"),
    "alias in itself": ("stages: &a [*a]\n", "p.yaml:1:9: this alias contains itself"),
    "alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcd", "bcde")),  # noqa: B905
        "p.yaml:1:24: too much in here to be a pipeline",
    ),
    "python tag": (
        "name: !!python/object:os.system x\n",
        "p.yaml:1:7: the tag '!!python/object:os.system' is not supported; remove it",
    ),
    "merge key": (
        "<<: {a: 1}\n",
        "p.yaml:1:1: merge keys ('<<') are not supported; write it out",
    ),
    "list as a key": (
        "? [1]\n: 2\n",
        "p.yaml:1:3: expected a name before ':', got a sequence",
    ),
    "two documents": (
        "name: x\n---\nname: y\n",
        "p.yaml:2:1: a second document begins here ('---'); expected one pipeline in a file",
    ),
    "control character": (b"name: \x01\n", "p.yaml:1:7: character 1 is not allowed"),
    "empty": ("", "p.yaml: the file is empty, expected a pipeline with 'stages:'"),
    "comments only": (
        "# nothing\n",
        "p.yaml: the file is empty, expected a pipeline with 'stages:'",
    ),
    "list at the top": ("- a\n- b\n", "p.yaml:1:1: expected mapping, got list ['a', 'b']"),
    "text at the top": ("hello\n", "p.yaml:1:1: expected mapping, got str 'hello'"),
    "not UTF-8": (
        b"name: x\nprompt: \xff\n",
        "p.yaml:2:9: expected UTF-8 text, got byte 0xff; save the file as UTF-8",
    ),
    "a video": (
        b"\0" * (300 * 1024),
        "p.yaml: larger than 256 KiB, expected a YAML pipeline; a video is given by --input",
    ),
    "nested without end": ("[" * 500, "p.yaml: nested too deeply to be a pipeline"),
    "several at once": (
        GOOD.replace("256x128", "1x1").replace("steps: 2", "stepz: 2").replace("to: [d", "to: [x"),
        "p.yaml:2:7: expected sides that are multiples of 16 from 64 to 1024, got 1x1; the "
        "nearest is 64x64 (size)\n"
        "p.yaml:8:5: unknown field 'stepz'; did you mean 'steps'? (stages.diffusion.stepz)\n"
        "p.yaml:10:34: no stage is called 'xiffusion'; did you mean 'diffusion'? (feedback.to[0])",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_told_by_line_and_column(config: Any, case: str) -> None:
    content, expected = BROKEN[case]
    with pytest.raises(ConfigError) as caught:
        config(content)
    assert str(caught.value) == expected


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("nosuch.yaml: no such file")):
        load_config(str(tmp_path / "nosuch.yaml"), (), REGISTRY)


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is a folder, expected a YAML file"):
        load_config(str(tmp_path), (), REGISTRY)


def test_a_bundled_name_gets_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is called 'dmo'; did you mean 'demo'"):
        load_config("dmo", (), REGISTRY)


def test_set_changes_one_option(config: Any) -> None:
    loaded = config(GOOD, SetPath("stages.diffusion.steps=4"), SetPath("size=64x64"))
    assert loaded.stages["diffusion"].steps == 4
    assert loaded.stages["diffusion"].prompt == "neon"
    assert loaded.size == Size(64, 64)


def test_set_reaches_what_the_yaml_left_out(config: Any) -> None:
    loaded = config(
        GOOD, SetPath("stages.output.outputs=[a.mp4]"), SetPath("stages.diffusion.styles.ink=0.5")
    )
    assert loaded.stages["output"].outputs == ("a.mp4",)
    assert loaded.stages["diffusion"].styles == {"ink": 0.5}


def test_set_may_repair_what_the_file_has_wrong(config: Any) -> None:
    broken = GOOD.replace("steps: 2", "steps: two")
    assert config(broken, SetPath("stages.diffusion.steps=2")).stages["diffusion"].steps == 2


BAD_FLAGS = {
    "stages.diffusion.stepz=2": "unknown field 'stepz'; did you mean 'steps'?",
    "stages.diffusion.steps=two": "expected int, got str 'two'",
    "stages.diffusion.steps=": "expected int, got nothing",
    "stages.difusion.steps=2": "p.yaml has no stage 'difusion'; did you mean 'diffusion'?",
    "stages.extra={kind: diffusion}": (
        "p.yaml has no stage 'extra'; the stages are capture, diffusion, output"
    ),
    "size.width=3": "size is no mapping, it has nothing inside it to set",
    "size=100x100": (
        "expected sides that are multiples of 16 from 64 to 1024, got 100x100; the nearest is 96x96"
    ),
    "rate_hz": "expected PATH=VALUE, for example --set stages.diffusion.steps=2",
    ".=3": "expected PATH=VALUE, for example --set stages.diffusion.steps=2",
    "stages.diffusion.styles={a: x}": ("expected float, got str 'x' (stages.diffusion.styles.a)"),
    "name=[a": (
        "broken YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)"
    ),
    "stages.diffusion.styles={a: 1, a: 2}": "'a' is given twice, first in line 1; remove one",
}


@pytest.mark.parametrize("flag", BAD_FLAGS)
def test_a_wrong_set_names_the_flag(config: Any, flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(GOOD, SetPath(flag))
    assert str(caught.value) == f"--set {flag}: {BAD_FLAGS[flag]}"


def test_an_option_flag_finds_the_stage_that_has_it(config: Any) -> None:
    loaded = config(
        GOOD,
        SetOption("--input x.mp4", "input", "x.mp4"),
        SetOption("--output a.mp4", "outputs", ["a.mp4"]),
        SetOption("--style ink=1", "styles", {"ink": 1.0}),
    )
    assert loaded.stages["capture"].input == "x.mp4"
    assert loaded.stages["output"].outputs == ("a.mp4",)
    assert loaded.stages["diffusion"].styles == {"ink": 1.0}


def test_an_option_flag_without_a_stage_is_an_error(config: Any) -> None:
    text = "stages: {capture: , output: }\n"
    with pytest.raises(ConfigError, match=r"--seed 3: no stage of p\.yaml has an option 'seed'"):
        config(text, SetOption("--seed 3", "seed", 3))


def test_an_option_flag_out_of_range_names_the_flag(config: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        config(GOOD, SetOption("--seed -1", "seed", -1))
    assert str(caught.value) == "--seed -1: expected at least 0, got int -1"


def test_a_stage_that_cannot_be_imported_is_named(config: Any) -> None:
    from importlib.metadata import EntryPoint

    registry = Registry({})
    registry._points["bad"] = EntryPoint("bad", "lsd.no_such_module:Bad", "lsd.stages")
    Path("p.yaml").write_text("stages: {bad: {}}\n")
    with pytest.raises(ConfigError, match=r"p.yaml:1:10: stage kind 'bad' .* cannot be imported"):
        load_config("p.yaml", (), registry)


def test_options_survive_a_round_trip(config: Any) -> None:
    loaded = config(GOOD)
    dumped = loaded.model_dump(by_alias=True, mode="json")
    assert dumped["size"] == "256x128"
    assert dumped["stages"]["diffusion"]["steps"] == 2
    assert dumped["ladder"] == "auto"


def test_ladder_survives_a_round_trip(config: Any) -> None:
    written = "ladder: [{steps: 2}, {size: 128x64}, reuse]"
    loaded = config(GOOD.replace("rate_hz: 30", written))
    assert loaded.ladder == (RungSpec(2), RungSpec(None, Size(128, 64)), RungSpec(is_reuse=True))
    dumped = loaded.model_dump(by_alias=True, mode="json")
    assert dumped["ladder"] == [{"steps": 2}, {"size": "128x64"}, "reuse"]
