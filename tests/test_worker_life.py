"""The life of a worker without a process: any order of events, on a clock of our own."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from lsd.pipeline.worker_life import (
    DUMP_NS,
    LONGEST_DELAY_NS,
    MISSING,
    STOP_GRACE_NS,
    TERM_GRACE_NS,
    Action,
    Exit,
    State,
    WorkerLife,
)
from lsd.pipeline.workers import SupervisionConfig

S = 1_000_000_000
KILLED = Exit(-9)


def policy(**values):
    return SupervisionConfig.model_validate(
        {"health_check_timeout_s": 2.0, "start_timeout_s": 10.0, "restart_delay_s": 1.0} | values
    )


def started(now_ns=0, **values):
    life = WorkerLife(policy(**values), now_ns)
    assert life.tick(now_ns) == [Action.SPAWN]
    return life


def running(now_ns=0, **values):
    life = started(now_ns, **values)
    life.ready(now_ns)
    life.heartbeat(now_ns, 1)
    assert life.state is State.RUNNING
    return life


def test_a_good_life():
    life = started()
    assert life.state is State.STARTING
    assert life.ready(3 * S) == []
    assert life.state is State.READY
    life.heartbeat(4 * S, 1)
    assert (life.state, life.since_ns) == (State.RUNNING, 4 * S)
    life.ended(5 * S)
    assert life.state is State.ENDING
    assert life.exited(6 * S, Exit(0)) == []
    assert (life.state, life.cause, life.restarts, life.due_ns) == (State.ENDED, None, 0, None)


def test_a_crash_is_told_to_the_others_and_undone():
    life = running()
    assert life.exited(5 * S, KILLED) == [Action.LOST]
    assert life.state is State.RESTARTING
    assert life.cause == "SIGKILL (kill -9, or out of memory)"
    assert life.tick(6 * S - 1) == []
    assert life.tick(6 * S) == [Action.SPAWN]
    assert life.restarts == 1
    assert life.ready(7 * S) == [Action.BACK]
    assert life.cause is None


def test_what_cannot_begin_is_not_tried_again_and_what_was_there_once_may_come_back():
    life = started()
    life.failed("nope.mp4: does not exist")
    assert life.exited(1 * S, Exit(MISSING)) == []
    assert (life.state, life.restarts) == (State.FAILED, 0)
    assert life.cause == "nope.mp4: does not exist (exit code 3)"

    life = started()
    life.failed("stage 'diffusion' could not start: OSError: Too many open files")
    assert life.exited(1 * S, Exit(1)) == []
    assert life.state is State.RESTARTING, "there may be room later"

    life = started()
    assert life.exited(1 * S, Exit(MISSING)) == []
    assert life.state is State.RESTARTING, "it has not said so"

    life = started(restart="always")
    life.failed("/dev/video0: does not exist")
    life.exited(1 * S, Exit(MISSING))
    assert life.state is State.RESTARTING

    life = running()
    life.exited(1 * S, KILLED)
    assert life.tick(3 * S) == [Action.SPAWN]
    life.failed("/dev/video0: does not exist")
    life.exited(4 * S, Exit(MISSING))
    assert life.state is State.RESTARTING


def test_a_start_that_takes_too_long_is_dumped_killed_and_tried_again():
    life = started()
    assert life.tick(10 * S - 1) == []
    assert life.tick(10 * S) == [Action.DUMP]
    assert life.ready(10 * S + 1) == [], "it comes too late: the kill is on its way"
    assert life.tick(10 * S + DUMP_NS) == [Action.KILL]
    assert life.tick(100 * S) == [], "one kill is enough"
    assert life.exited(11 * S, KILLED) == [], "the others never had it"
    assert life.cause == "not ready within 10 s of its start"
    assert life.state is State.RESTARTING


def test_without_a_heartbeat_it_degrades_and_then_counts_as_hung():
    life = running()
    assert life.tick(S - 1) == []
    assert life.state is State.RUNNING
    assert life.tick(S) == []
    assert life.state is State.DEGRADED
    assert life.tick(2 * S - 1) == []
    assert life.tick(2 * S) == [Action.LOST, Action.DUMP]
    life.heartbeat(2 * S + 1, 2)
    assert life.state is State.DEGRADED, "what is being killed does not recover"
    assert life.tick(2 * S + DUMP_NS) == [Action.KILL]
    assert life.exited(3 * S, KILLED) == []
    assert life.cause == "hung: no sign of life for 2.0 s"
    assert life.state is State.RESTARTING


def test_a_heartbeat_with_a_new_frame_heals_a_degraded_worker():
    life = running()
    life.tick(S)
    life.heartbeat(S + S // 2, 1)
    assert life.state is State.DEGRADED, "alive, but the same frame"
    life.heartbeat(S + S // 2, 2)
    assert life.state is State.RUNNING
    assert life.due_ns == 2 * S + S // 2


def test_beating_without_frames_is_hung_unless_it_waits_for_work():
    stuck, idle = running(), running()
    for tenth in range(1, 21):
        stuck.heartbeat(tenth * S // 10, 1)
        idle.heartbeat(tenth * S // 10, 1, is_waiting=True)
    assert stuck.tick(2 * S) == [Action.LOST, Action.DUMP]
    assert stuck.cause == "hung: no new frame for 2.0 s, although it had work"
    assert idle.tick(2 * S) == []
    assert idle.state is State.RUNNING


def test_what_nobody_could_hear_is_not_held_against_it():
    life = running()
    life.excuse(30 * S, 29 * S)  # stopped from 1 s on: it had been silent for one second then
    assert life.tick(30 * S) == []
    life.heartbeat(int(30.1 * S), 2)
    assert life.state is State.RUNNING
    assert life.restarts == 0


def test_a_worker_that_hangs_is_found_all_the_same_after_a_pause():
    life = running()
    life.excuse(30 * S, 29 * S)
    life.tick(30 * S)
    assert life.tick(int(31.5 * S)) == [Action.LOST, Action.DUMP]
    assert life.cause == "hung: no sign of life for 2.5 s"


def test_a_pause_is_no_part_of_a_start():
    life = started()
    life.excuse(30 * S, 25 * S)
    assert life.tick(30 * S) == []
    assert life.tick(35 * S) == [Action.DUMP]


def test_a_count_that_begins_anew_is_progress():
    life = running()
    life.exited(S, KILLED)
    life.tick(2 * S)
    life.ready(2 * S)
    life.heartbeat(2 * S, 1)
    assert life.state is State.RUNNING


def test_delays_double_and_a_good_stretch_resets_them():
    life, now, delays = running(restart_window_s=60.0), 0, []
    for _ in range(4):
        life.exited(now, KILLED)
        delays.append((life.due_ns - now) // S)
        now = life.due_ns
        life.tick(now)
        life.ready(now)
        life.heartbeat(now, 1)
    assert delays == [1, 2, 4, 8]
    life.exited(now + 60 * S, KILLED)
    assert life.due_ns == now + 61 * S
    assert life.in_a_row == 0


def test_a_hang_after_a_good_stretch_is_the_first_in_a_row():
    life = running(restart_window_s=5.0, max_restarts=1)
    life.exited(0, KILLED)
    life.tick(S)
    life.ready(S)
    for second in range(1, 21):
        life.heartbeat(second * S, second)
    life.tick(21 * S)
    assert life.tick(22 * S) == [Action.LOST, Action.DUMP]
    life.exited(23 * S, KILLED)
    assert life.state is State.RESTARTING


def again(life):
    """Bring a worker that is to be restarted back to running."""
    now = life.due_ns
    life.tick(now)
    life.ready(now)
    life.heartbeat(now, 1)
    assert life.state is State.RUNNING
    return now


def test_two_half_good_stretches_are_no_good_one():
    life = running(restart_window_s=10.0)
    life.exited(0, KILLED)
    now = again(life)
    for second in (*range(7), *range(8, 15)):  # without a sign of life for a moment, at 7
        life.tick(now + second * S)
        life.heartbeat(now + second * S, second)
    life.exited(now + 15 * S, KILLED)
    assert life.in_a_row == 1


def test_the_time_that_it_hung_is_no_good_one():
    life = running(restart_window_s=5.5)
    life.exited(0, KILLED)
    now = again(life)
    for second in range(1, 5):
        life.heartbeat(now + second * S, second)
    life.tick(now + 5 * S)
    assert life.tick(now + 6 * S) == [Action.LOST, Action.DUMP]
    life.exited(now + 7 * S, KILLED)
    assert life.in_a_row == 1


def test_nothing_of_one_process_is_held_against_the_next():
    life = running()
    life.tick(2 * S)
    life.exited(3 * S, KILLED)  # it hung
    now = again(life)
    life.failed("the camera is gone")
    life.exited(now, Exit(1))
    assert life.cause == "the camera is gone (exit code 1)"
    now = again(life)
    assert life.cause is None
    assert life.exited(now, Exit(3)) == [Action.LOST]
    assert life.cause == "exit code 3"


def test_no_delay_is_longer_than_half_a_minute():
    life = running(max_restarts=20)
    for _ in range(12):
        now = life.since_ns
        life.exited(now, KILLED)
        delay_ns = life.due_ns - now
        again(life)
    assert delay_ns == LONGEST_DELAY_NS


def test_one_failure_more_than_allowed_is_the_last():
    life = running(max_restarts=0)
    assert life.exited(S, Exit(1)) == [Action.LOST]
    assert (life.state, life.cause) == (State.FAILED, "exit code 1")


def test_never_means_never():
    life = running(restart="never")
    life.exited(S, KILLED)
    assert life.state is State.FAILED


def test_a_wrong_file_is_not_tried_again():
    life = started()
    life.failed("no such file: a.mp4")
    life.exited(S, Exit(2))
    assert (life.state, life.cause) == (State.FAILED, "no such file: a.mp4 (exit code 2)")


def test_an_error_that_was_told_is_a_failure_whatever_the_exit_code():
    life = running()
    life.failed("the camera is gone")
    assert life.exited(S, Exit(0)) == [Action.LOST]
    assert life.state is State.RESTARTING


def test_a_crash_of_the_interpreter_after_the_end_spoils_nothing():
    life = running()
    life.ended(S)
    life.exited(2 * S, Exit(-11))
    assert life.state is State.ENDED
    assert life.cause is None


def test_one_that_has_ended_but_does_not_exit_is_ended_by_force():
    life = running()
    life.ended(0)
    assert life.tick(STOP_GRACE_NS) == [Action.TERM]
    assert life.tick(STOP_GRACE_NS + TERM_GRACE_NS) == [Action.KILL]
    life.exited(20 * S, KILLED)
    assert life.state is State.ENDED


def test_always_starts_again_what_ended():
    life = running(restart="always")
    life.ended(S)
    life.exited(S, Exit(0))
    assert life.state is State.RESTARTING
    life.tick(life.due_ns)
    life.ready(5 * S)
    life.stop(6 * S)
    life.ended(7 * S)
    life.exited(7 * S, Exit(0))
    assert life.state is State.ENDED, "but not when the run ends"


def test_a_stop_grows_harder():
    life = running()
    assert life.stop(0) == [Action.STOP]
    assert life.stop(1) == []
    assert life.tick(STOP_GRACE_NS - 1) == []
    assert life.tick(STOP_GRACE_NS) == [Action.TERM]
    assert life.tick(STOP_GRACE_NS + TERM_GRACE_NS) == [Action.KILL]
    assert life.exited(20 * S, KILLED) == []
    assert life.state is State.ENDED


def test_a_crash_while_ending_is_a_failure_and_no_reason_to_start_again():
    life = running()
    life.stop(0)
    life.exited(S, Exit(-11))
    assert (life.state, life.cause) == (State.FAILED, "SIGSEGV (a crash in native code)")


def test_what_starts_has_nothing_to_finish_and_what_waits_to_start_never_does():
    life = started()
    assert life.stop(S) == [Action.TERM]
    assert life.tick(S + TERM_GRACE_NS) == [Action.KILL]
    waiting = running()
    waiting.exited(S, KILLED)
    assert waiting.stop(S) == []
    assert waiting.state is State.ENDED
    assert waiting.tick(1000 * S) == []


def test_a_stop_does_not_save_one_that_is_being_killed():
    life = running()
    life.tick(2 * S)
    assert life.stop(2 * S + 1) == []
    assert life.tick(2 * S + DUMP_NS) == [Action.KILL]
    life.exited(3 * S, KILLED)
    assert life.state is State.ENDED


def test_kill_is_at_once():
    life = running()
    assert life.kill(S) == [Action.KILL]
    life.exited(S, KILLED)
    assert life.state is State.ENDED
    assert life.kill(2 * S) == []


# What may happen to a worker, and how long after what happened before.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "beat", "still", "waits", "crash", "exit0", "usage", "ended",
                         "failed", "wait", "stop", "kill"]),
        st.integers(0, 40 * S),
    ),
    max_size=80,
)  # fmt: skip
POLICIES = st.builds(
    policy,
    restart=st.sampled_from(["on_failure", "on_failure", "always", "never"]),
    max_restarts=st.integers(0, 4),
    restart_window_s=st.floats(1, 90),
    restart_delay_s=st.floats(0, 20),
    health_check_timeout_s=st.floats(0.5, 60),
    start_timeout_s=st.floats(0.1, 60),
)


class World:
    """Carries out what a life asks for, and keeps the times of its spawns."""

    def __init__(self, rules):
        self.life, self.now, self.has_process = WorkerLife(rules, 0), 0, False
        self.spawns, self.delays, self.states, self.kills = [], [], [], 0

    def obey(self, actions):
        for action in actions:
            if action is Action.SPAWN:
                assert not self.has_process, "two processes at once"
                assert not {State.FAILED, State.ENDED} & set(self.states)
                self.has_process = True
                self.spawns.append(self.now)
            if action in (Action.STOP, Action.DUMP, Action.TERM, Action.KILL):
                assert self.has_process, f"{action} with nobody there"
            self.kills += action is Action.KILL
        self.states.append(self.life.state)

    def advance(self, until):
        """Let time pass, with every deadline on the way met on time."""
        while self.life.due_ns is not None and self.life.due_ns <= until:
            before = (self.now, self.life.due_ns, self.life.state)
            self.now = max(self.now, self.life.due_ns)
            kills = self.kills
            self.obey(self.life.tick(self.now))
            assert (self.now, self.life.due_ns, self.life.state) != before, "a busy loop"
            if self.kills > kills:
                self.exit(KILLED)
        self.now = max(self.now, until)

    def exit(self, how):
        if self.has_process:
            self.has_process = False
            self.obey(self.life.exited(self.now, how))
            if self.life.state is State.RESTARTING:
                self.delays.append((self.life.in_a_row, self.life.due_ns - self.now))

    def happen(self, event):
        life, now = self.life, self.now
        if event in ("stop", "kill"):
            kills = self.kills
            self.obey(life.stop(now) if event == "stop" else life.kill(now))
            if self.kills > kills:
                self.exit(KILLED)
        elif not self.has_process or event == "wait":
            return
        elif event == "ready":
            self.obey(life.ready(now))
        elif event in ("beat", "still", "waits"):
            frames = now if event == "beat" else 1
            life.heartbeat(now, frames, is_waiting=event == "waits")
        elif event == "ended":
            life.ended(now)
        elif event == "failed":
            life.failed("an error")
        else:
            self.exit({"crash": KILLED, "exit0": Exit(0), "usage": Exit(2)}[event])
        self.states.append(life.state)


def lived(rules, events):
    world = World(rules)
    for event, later in events:
        world.advance(world.now + later)
        world.happen(event)
    return world


@given(POLICIES, EVENTS)
def test_never_more_restarts_in_a_window_than_allowed(rules, events):
    world = lived(rules, events)
    restarts, window = world.spawns[1:], rules.restart_window_s * S
    for first in restarts:
        inside = [when for when in restarts if first <= when < first + window]
        assert len(inside) <= rules.max_restarts
    assert world.life.restarts == len(restarts)


@given(POLICIES, EVENTS)
def test_within_a_row_delays_only_grow(rules, events):
    world = lived(rules, events)
    for (row, delay), (next_row, next_delay) in zip(world.delays, world.delays[1:], strict=False):
        if next_row > row:
            assert next_delay >= delay
    assert all(delay <= LONGEST_DELAY_NS for _, delay in world.delays)


@given(POLICIES, EVENTS)
def test_what_is_over_stays_over_and_what_ends_is_not_started_again(rules, events):
    world = lived(rules, events)
    for done in (State.FAILED, State.ENDED):
        if done in world.states:
            first = world.states.index(done)
            assert set(world.states[first:]) == {done}
            assert not world.has_process
    stops = [at for at, (event, _) in enumerate(events) if event in ("stop", "kill")]
    assume(stops)
    until = lived(rules, events[: stops[0] + 1])
    assert len(world.spawns) == len(until.spawns)


@given(POLICIES, EVENTS, st.sampled_from(["crash", "silence"]))
def test_a_worker_that_only_fails_comes_to_an_end(rules, events, how):
    world = lived(rules, events)
    for _ in range(rules.max_restarts + 3):
        if world.life.is_over:
            break
        world.advance(world.now + 200 * S)
        if how == "crash":
            world.exit(KILLED)
    world.advance(world.now + 4000 * S)
    assert world.life.is_over


@given(POLICIES, EVENTS)
def test_a_stop_always_ends_it(rules, events):
    world = lived(rules, events)
    world.happen("stop")
    world.advance(world.now + STOP_GRACE_NS + TERM_GRACE_NS + DUMP_NS)
    assert world.life.is_over
