"""What a process leaves to its successor: whole, the same, and never the end of either."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lsd.lab import recovery
from lsd.lab.recovery import Trial, configured, stream
from lsd.pipeline.checkpoint import _STATE, _STATE_BYTES, Checkpoint, checkpoint_bytes
from lsd.pipeline.errors import StageError
from lsd.pipeline.frame import Frame, FrameFlag, Size
from lsd.pipeline.links import memory
from lsd.pipeline.links.header import MAX_HEADER_BYTES
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.params import ParamStore
from lsd.pipeline.part import Part
from lsd.pipeline.succession import Succession
from lsd.stages.diffusion import Diffusion
from lsd.stages.memory import Memory
from lsd.stages.models.bank import MemoryBank
from lsd.stages.models.texture import PERIOD, TextureField
from lsd.stages.recall import Recall

SIZE = Size(64, 64)
CONFIG = configured("brush", "64x64", 7)
PARAMS = ParamStore(CONFIG.stages).snapshot()


@pytest.fixture
def opened():
    """Yield what opens the same checkpoint, again and again."""
    fd = memory.create("checkpoint", checkpoint_bytes(SIZE))

    def open_it(told=print):
        return Checkpoint(fd, SIZE, Snapshots(PARAMS.stages), told)

    return open_it


def frame(seq):
    data = torch.full((1, 3, 64, 64), seq / 100)
    source = torch.full((1, 64, 64, 3), seq, dtype=torch.uint8)
    return Frame(seq, 0, 0, None, data, source, None, PARAMS, FrameFlag.NONE)


def states(n):
    return {
        "one": {"map": np.full((4, 5), n, np.float32), "none": np.zeros((0, 3), np.float32)},
        "two": {"count": np.array(n), "on": np.array([True, False])},
    }


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for stage, state in wanted.items():
        assert found[stage].keys() == state.keys()
        for name, array in state.items():
            assert found[stage][name].dtype == array.dtype
            assert np.array_equal(found[stage][name], array)


# The checkpoint


@pytest.mark.parametrize("with_picture", [True, False])
def test_what_stages_remember_comes_back_beside_the_picture_or_alone(opened, with_picture):
    first = opened()
    for n in range(5):
        first.save(frame(n) if with_picture else None, 7, states(n))
    found = opened().load()
    assert found.epoch == 7
    assert (found.frame.seq if with_picture else found.frame) == (4 if with_picture else None)
    same(found.states, states(4))
    opened().save(frame(9), 8, states(9))
    same(opened().load().states, states(9))


def test_what_is_the_same_array_again_is_not_copied_again(opened):
    checkpoint, kept = opened(), states(1)
    for _ in range(2):  # the two places
        checkpoint.save(frame(1), 1, kept)
    kept["one"]["map"][...] = 99  # which nobody may: it shows that it was not looked at
    checkpoint.save(frame(2), 1, kept)
    assert opened().load().states["one"]["map"].max() == 1
    checkpoint.save(frame(3), 1, kept | {"one": kept["one"] | {"map": kept["one"]["map"].copy()}})
    assert opened().load().states["one"]["map"].max() == 99


def test_states_that_come_and_go_and_change_their_sizes_do_not_mix(opened):
    checkpoint = opened()
    for n in range(12):
        found = {
            "one": {"map": np.full((n % 3 + 1, 2), n, np.float32)},
            **({"two": {"count": np.array(n)}} if n % 2 else {}),
        }
        checkpoint.save(frame(n), 1, found)
        same(opened().load().states, found)


def test_states_half_written_leave_those_before(opened, monkeypatch):
    checkpoint = opened()
    for n in range(3):
        checkpoint.save(frame(n), 1, states(n))
    written = []
    whole = Checkpoint._at

    def dies(self, start, entry):
        if written:
            raise KeyboardInterrupt
        written.append(entry)
        return whole(self, start, entry)

    monkeypatch.setattr(Checkpoint, "_at", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(frame(99), 1, states(99))
    monkeypatch.undo()
    found = opened().load()
    assert found.frame.seq == 2
    same(found.states, states(2))
    checkpoint.save(frame(5), 1, states(5))  # and whoever lived on writes all of it
    same(opened().load().states, states(5))


@pytest.mark.parametrize(
    "entry",
    [
        ("one", "map", "uint8", (1,) * 70, 0),
        ("one", "map", "uint8", (0, 2**62, 2**62), 0),
        ("one", "map", "bool\n", (1,), 0),
        ("one", "map", "object", (1,), 0),
        ("one", "map", "uint8", (1,), 3),
    ],
)
def test_an_index_of_arrays_that_cannot_be_costs_the_states_alone(opened, entry):
    checkpoint = opened()
    checkpoint.save(frame(3), 1, states(3))
    place = checkpoint._written % 2
    start = place * checkpoint._slot_bytes
    index = start + _STATE_BYTES + MAX_HEADER_BYTES + checkpoint._picture_bytes
    listed = msgspec.msgpack.encode([entry])
    checkpoint._memory[index : index + len(listed)] = listed
    written, epoch, header_bytes, _ = checkpoint._state(place)
    _STATE.pack_into(checkpoint._memory, start, written, epoch, header_bytes, len(listed))
    found = opened().load()
    assert (found.frame.seq, found.states) == (3, {})


def test_a_damaged_index_costs_the_states_and_not_the_picture(opened):
    random = np.random.default_rng(5)
    checkpoint = opened()
    checkpoint.save(frame(3), 1, states(3))
    second = checkpoint._slot_bytes  # the place that was written
    index = checkpoint._memory.find(b"map", second) - 20
    assert index > second
    before = bytes(checkpoint._memory[index : index + 120])
    lost = 0
    for _ in range(300):
        where = index + int(random.integers(0, 120))
        checkpoint._memory[where] = int(random.integers(0, 256))
        found = opened().load()
        assert found.frame.seq == 3
        lost += found.states.keys() != {"one", "two"}
        checkpoint._memory[index : index + 120] = before
    assert lost > 20
    same(opened().load().states, states(3))


def test_a_stage_that_remembers_too_much_is_told_of_once_and_the_others_are_kept(opened):
    told = []
    checkpoint = opened(told.append)
    big = {"big": {"all": np.zeros(6_000_000, np.uint8)}, **states(1)}
    for _ in range(3):
        checkpoint.save(frame(1), 1, big)
    same(opened().load().states, states(1))
    assert len(told) == 1
    assert "stage 'big' remembers 6.0 MB, and there is room for 4.2 MB" in told[0]


# The loop's side of it


class Remembering:
    name = "one"

    def __init__(self, state=None, error=None):
        self.given, self.found, self.error = state or {}, None, error

    def state(self):
        if self.error:
            raise self.error
        return self.given

    def restore(self, state):
        if self.error:
            raise self.error
        self.found = state


def part(opened):
    return Part(frozenset(["one"]), checkpoint=opened())


def test_stages_take_over_what_those_of_the_process_before_left(opened):
    Succession(part(opened), [Remembering(states(2)["one"])], print).keep(frame(4), 6)
    stage = Remembering()
    after = Succession(part(opened), [stage], print)
    assert (after.frame.seq, after.epoch) == (4, 6)
    same({"one": stage.found}, {"one": states(2)["one"]})


def test_a_stage_that_cannot_tell_or_take_is_told_of_and_loses_no_frame(opened):
    told = []
    broken = Remembering(error=StageError("the map is torn"))
    succession = Succession(part(opened), [broken], told.append)
    for seq in range(3):
        succession.keep(frame(seq), 1)
    assert opened().load().frame.seq == 2
    assert told == [
        "stage 'one' cannot say what it remembers, and begins anew after a crash: the map is torn"
    ]
    Succession(part(opened), [Remembering(states(1)["one"])], print).keep(frame(3), 1)
    Succession(part(opened), [broken], told.append)
    assert told[1:] == [
        "stage 'one' begins anew, as what its predecessor left is of no use: the map is torn"
    ]


def test_a_process_whose_stages_remember_nothing_keeps_nothing_alone(opened):
    Succession(part(opened), [Remembering()], print).keep(None, 1)
    assert opened().load() is None


# The stages


def test_a_model_that_died_between_two_frames_leaves_the_stream_as_it_was():
    calm = stream(CONFIG, None, "loop", recovery.SETTLED + 12)
    crashed = stream(CONFIG, Trial("brush", "loop", "model", 0, True), "loop", len(calm))
    assert all(np.array_equal(one.y, other.y) for one, other in zip(calm, crashed, strict=True))


def moved(field, rng):
    field.advance(rng.normal(0, 2, (64, 64, 2)).astype(np.float32))


def test_a_texture_goes_on_where_it_was():
    rng, field = np.random.default_rng(1), TextureField(3, 64, 64)
    for _ in range(9):
        moved(field, rng)
    state = {name: array.copy() for name, array in field.state().items()}
    other = TextureField.restored(state, 64, 64)
    for n in range(4):
        moved(field, np.random.default_rng(n)), moved(other, np.random.default_rng(n))
        assert np.array_equal(field.sample(), other.sample())


@pytest.mark.parametrize("frames", [0, 1, 124, 125, 126, 249, 250, 251, 600])
@pytest.mark.parametrize("phase", [0, 3, 124, 125, 249])
def test_a_texture_skips_frames_as_if_nothing_had_moved_in_them(phase, frames):
    rng, field = np.random.default_rng(1), TextureField(3, 64, 64)
    field.reset(phase)
    moved(field, rng)
    still = TextureField.restored(
        {name: array.copy() for name, array in field.state().items()}, 64, 64
    )
    field.skip(frames)
    nothing = np.zeros((64, 64, 2), np.float32)
    mend, still._mend = still._mend, lambda: None  # of a map at rest there is nothing to mend
    for _ in range(frames):
        still.advance(nothing)
    still._mend = mend
    assert field._phase == still._phase
    np.testing.assert_allclose(field.sample(), still.sample(), atol=0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"map": np.zeros((32, 32, 3), np.float32)},
        {"map": np.zeros((32, 32, 4), np.float64)},
        {"map": np.full((32, 32, 4), np.nan, np.float32)},
        {"phase": np.array(PERIOD)},
        {"phase": np.array(-1)},
        {"seed": np.array(-1)},
        {"what": np.array(1)},
    ],
)
def test_what_is_no_textures_state_is_refused(change):
    with pytest.raises(ValueError, match=r"texture|map"):
        TextureField.restored({**TextureField(3, 64, 64).state(), **change}, 64, 64)


def bank(n, capacity=4):
    made, rng = MemoryBank(capacity, 3, 5), np.random.default_rng(n)
    for _ in range(n):
        made.learn(
            torch.from_numpy(rng.normal(size=3).astype(np.float32)),
            torch.from_numpy(rng.normal(size=5).astype(np.float32)),
        )
    return made


@pytest.mark.parametrize("n", [0, 1, 4, 7])
def test_a_bank_knows_what_another_knew_and_goes_on_in_its_place(n):
    one, other = bank(n), MemoryBank(4, 3, 5)
    other.restore(one.state())
    assert len(one) == len(other)
    for step in range(6):
        query = torch.from_numpy(np.random.default_rng(step).normal(size=3).astype(np.float32))
        found = one.recall(query), other.recall(query)
        assert (found[0] is None) == (found[1] is None)
        if found[0] is not None:
            assert torch.equal(found[0][0], found[1][0])
        for each in (one, other):
            each.learn(query, torch.full((5,), float(step)))


def test_a_bank_copies_itself_only_when_it_has_learned():
    one = bank(2)
    first = one.state()
    assert one.state() is first
    one.learn(torch.ones(3), torch.ones(5))
    assert one.state() is not first
    assert len(first["keys"]) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"keys": np.zeros((2, 4), np.float32)},
        {"values": np.zeros((3, 5), np.float32)},
        {"values": np.full((2, 5), np.inf, np.float32)},
        {"learned": np.array(3)},
        {"learned": np.array(-1)},
        {"keys": np.zeros((2, 3), np.float64)},
    ],
)
def test_what_is_no_banks_state_is_refused_and_leaves_it_as_it_was(change):
    known = bank(1)
    with pytest.raises(ValueError, match=r"expected|finite"):
        known.restore({**bank(2).state(), **change})
    assert len(known) == 1


@pytest.mark.parametrize("stage", [Diffusion("diffusion"), Recall("recall"), Memory("memory")])
def test_stages_refuse_what_another_ones_left(stage):
    with pytest.raises(StageError):
        stage.restore({"else": np.zeros(3)})


# The laboratory


def test_the_command_tells_what_states_are_worth(tmp_path):
    found = tmp_path / "found.json"
    told = CliRunner().invoke(
        recovery.app,
        ["--size", "64x64", "--styles", "brush", "--scenes", "loop", "--gaps", "1",
         "--json", str(found)],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    picture, kept = json.loads(found.read_text())
    assert (picture["trial"]["keeps"], kept["trial"]["keeps"]) == (False, True)
    at = str(recovery.BY)
    assert kept["same_db"][at] < 1.0 < 5.0 < picture["same_db"][at]
    assert kept["worst_db"] <= recovery.LIMIT_DB


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--scenes", "loop,lopo"], "no 'lopo'; there are loop, static, hunting"),
        (["--gaps", "one"], "expected numbers, such as 1,150"),
        (["--gaps", "-1"], "a gap is 0 or more"),
        (["--styles", "brsh"], "brsh"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(options, text):
    told = CliRunner().invoke(recovery.app, options)
    assert told.exit_code == 2
    assert text in told.output
