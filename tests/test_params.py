import threading

import pytest
from fakes import FakeOptions

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.params import ParamStore, StageOptions


def store():
    return ParamStore({"blend": FakeOptions(kind="fake"), "output": FakeOptions(kind="fake")})


def test_change_makes_a_new_snapshot_and_leaves_the_old_one_alone():
    params = store()
    before = params.snapshot()
    after = params.set("blend", level=5)
    assert params.snapshot() is after
    assert before.of("blend", FakeOptions).level == 1
    assert after.of("blend", FakeOptions).level == 5
    assert (before.version, after.version) == (0, 1)


def test_change_leaves_other_stages_alone():
    params = store()
    before = params.snapshot()
    assert params.set("blend", level=5).stages["output"] is before.stages["output"]


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("blnd", {"level": 2}, "no stage 'blnd'; the stages are blend, output"),
        ("blend", {"levle": 2}, "stages.blend has no option 'levle'"),
        ("blend", {"path": "x"}, "stages.blend.path cannot change while running"),
        ("blend", {"kind": "x"}, "stages.blend.kind cannot change while running"),
        ("blend", {"level": 10}, "stages.blend.level: .* less than or equal to 9, got 10"),
        ("blend", {"level": "two"}, "stages.blend.level: .* valid integer.*, got 'two'"),
    ],
)
def test_wrong_change_is_refused_and_changes_nothing(stage, changes, message):
    params = store()
    before = params.snapshot()
    with pytest.raises(ConfigError, match=message):
        params.set(stage, **changes)
    assert params.snapshot() is before


def test_one_wrong_value_holds_back_the_right_ones_beside_it():
    params = store()
    with pytest.raises(ConfigError, match="cannot change while running"):
        params.set("blend", level=2, path="x")
    assert params.snapshot().of("blend", FakeOptions).level == 1


def test_options_of_the_wrong_class_are_our_own_mistake():
    class Other(StageOptions):
        pass

    with pytest.raises(AssertionError, match="blend has FakeOptions"):
        store().snapshot().of("blend", Other)


def test_changes_from_many_threads_are_all_counted():
    params = store()

    def change():
        for level in range(10):
            params.set("blend", level=level)

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert params.snapshot().version == 40
