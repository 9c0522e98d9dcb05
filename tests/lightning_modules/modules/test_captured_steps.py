"""Capturing a step, with a graph of this test's in the place of CUDA's: a replay calls what was recorded."""

import weakref

import pytest
import torch

from lightning_modules.modules import captured_steps
from lightning_modules.modules.captured_steps import CapturedSteps, CaptureError, StepState, capture_step


class CallingGraph:
    """A graph that calls the recorded step, for each replay."""

    def __init__(self):
        self.generators = []

    def register_generator_state(self, generator):
        self.generators.append(generator)

    def replay(self):
        self.step()


@pytest.fixture
def graphs(monkeypatch):
    """Graphs that were captured."""
    made = []

    def record(graph, step, pool):
        graph.step = step
        made.append(graph)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", CallingGraph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(captured_steps, "_record_step", record)
    return made


class Counting:
    """A step that counts, draws, and allocates a sum when it is first taken."""

    def __init__(self):
        self.weights, self.count = torch.full((3,), 5.0), torch.tensor(41)
        self.generator = torch.Generator().manual_seed(3)
        self.sums: list[torch.Tensor] = []
        self.num_calls = 0

    def find_state(self):
        sums = {f"sum {number}": values for number, values in enumerate(self.sums)}
        return StepState({"weights": self.weights, "count": self.count} | sums, [self.generator], sums=sums.keys())

    def __call__(self):
        self.num_calls += 1
        self.weights += torch.rand(3, generator=self.generator)
        self.count += 1
        self.sums = self.sums or [torch.zeros(3)]
        self.sums[0] += self.weights


def test_a_capture_leaves_the_state_as_it_was_and_its_replays_are_the_steps(graphs):
    step, expected = Counting(), Counting()
    graph = capture_step(step, step.find_state, pool=None)
    assert step.num_calls == 2  # an ordinary step, and the replay that is compared with it
    assert torch.equal(step.weights, expected.weights)
    assert int(step.count) == 41
    assert torch.equal(step.sums[0], torch.zeros(3))
    assert graph.generators == [step.generator]
    for _ in range(3):
        graph.replay()
        expected()
    assert torch.equal(step.weights, expected.weights)
    assert torch.equal(step.sums[0], expected.sums[0])


def test_steps_of_one_key_are_captured_once(graphs):
    step = Counting()
    steps = CapturedSteps(step.find_state)
    for size in (128, 128, 72, 128):
        steps.take((size,), step)
    assert len(graphs) == 2
    assert int(step.count) == 41 + 4
    steps.release()
    assert steps.graphs == {}


def test_a_replay_that_counts_otherwise_is_told_however_far_the_count_is(graphs, monkeypatch):
    step = Counting()
    step.count += 1_000_000

    def record_another(graph, _, pool):
        graph.step = lambda: (step(), step.count.add_(1))

    monkeypatch.setattr(captured_steps, "_record_step", record_another)
    before = step.find_state().copy()
    with pytest.raises(CaptureError, match=r"count differs by 1 of 1e\+06"):
        capture_step(step, step.find_state, pool=None)
    assert torch.equal(step.weights, before.tensors["weights"])
    assert torch.equal(step.count, before.tensors["count"])


def test_a_buffer_that_is_replaced_is_told_and_its_values_are_brought_back(graphs):
    step = Counting()

    def replace_buffer():
        step.weights = step.weights + 1

    with pytest.raises(CaptureError, match="a step makes a new tensor of weights"):
        capture_step(replace_buffer, step.find_state, pool=None)
    assert torch.equal(step.weights, torch.full((3,), 5.0))
    assert graphs == []


def test_what_an_ordinary_step_raises_is_no_matter_of_the_capture(graphs):
    step = Counting()

    def fail():
        raise RuntimeError("expected 3 channels")

    with pytest.raises(RuntimeError, match="expected 3 channels") as caught:
        capture_step(fail, step.find_state, pool=None)
    assert not isinstance(caught.value, CaptureError)


def test_a_step_that_cannot_be_recorded_leaves_the_state_as_it_was(graphs, monkeypatch):
    step = Counting()

    def refuse(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(captured_steps, "_record_step", refuse)
    with pytest.raises(CaptureError, match=r"^operation not permitted when stream is capturing$"):
        capture_step(step, step.find_state, pool=None)
    assert torch.equal(step.weights, torch.full((3,), 5.0))
    assert int(step.count) == 41


class RecordingGraph(CallingGraph):
    """A graph that is captured as CUDA's is; a step is taken as it is recorded, so that a replay does nothing."""

    def capture_begin(self, **options):
        assert options == {"pool": None, "capture_error_mode": "thread_local"}

    def capture_end(self):
        """Nothing to end."""

    def replay(self):
        """The step has been taken."""


@pytest.fixture
def ended(monkeypatch):
    """What was ended: captures, and the allocator's recording into their pool."""
    told = []
    monkeypatch.setattr(RecordingGraph, "capture_end", lambda _: told.append("capture"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordingGraph)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.Generator(),))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *_: told.append("pool"), raising=False)
    return told


@pytest.mark.parametrize("num_failures", [0, 1, 2])
def test_a_capture_without_memory_is_tried_again_once_the_step_has_let_go_of_its_own(ended, monkeypatch, num_failures):
    step, alive, freed = Counting(), [], []

    def take_step():
        activations = torch.zeros(3)
        alive.append(weakref.ref(activations))
        if 1 < len(alive) <= 1 + num_failures:  # the first call is the ordinary step
            raise torch.OutOfMemoryError("CUDA out of memory")
        step()

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append([reference() for reference in alive]))
    if num_failures < 2:
        capture_step(take_step, step.find_state, pool=None)
        assert ended == ["capture", "pool"] * num_failures + ["capture"]
    else:
        with pytest.raises(CaptureError, match="more memory than is free"):
            capture_step(take_step, step.find_state, pool=None)
        assert ended == ["capture", "pool"] * 2
    assert freed == ([[None, None]] if num_failures else [])  # the tensors of both calls so far are gone
    assert torch.equal(step.weights, torch.full((3,), 5.0))


def test_a_capture_that_the_driver_invalidates_leaves_the_allocator_in_order(ended, monkeypatch):
    step = Counting()

    def fail_to_end(_):
        ended.append("capture failed")
        raise RuntimeError("capture invalidated")

    def read_a_value():
        step()
        if step.num_calls == 2:
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(RecordingGraph, "capture_end", fail_to_end)
    with pytest.raises(CaptureError, match="operation not permitted"):
        capture_step(read_a_value, step.find_state, pool=None)
    assert ended == ["capture failed", "pool"]
    assert torch.equal(step.weights, torch.full((3,), 5.0))


class Late(Counting):
    """A step that registers a buffer when it is first taken, before the others."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def find_state(self):
        state = super().find_state()
        late = {"late": self.late} if hasattr(self, "late") else {}
        return StepState(late | dict(state.tensors), state.generators, state.sums)

    def __call__(self):
        super().__call__()
        if not hasattr(self, "late"):
            self.late = self.values.clone()


@pytest.mark.parametrize("values", [torch.full((3,), 7.0), torch.tensor(7), torch.ones(2, 2)])
def test_a_buffer_that_is_registered_in_a_step_is_told_and_moves_no_other_value(graphs, values):
    step = Late(values)
    with pytest.raises(CaptureError, match="a step makes a new tensor of late"):
        capture_step(step, step.find_state, pool=None)
    assert torch.equal(step.weights, torch.full((3,), 5.0))
    assert int(step.count) == 41
    assert torch.equal(step.late, values)
    assert torch.equal(step.sums[0], torch.zeros(3))


def test_a_buffer_that_grows_is_told(graphs):
    step = Counting()

    def grow():
        step.weights = torch.cat([step.weights, torch.ones(1)])

    with pytest.raises(CaptureError, match="a step makes a new tensor of weights"):
        capture_step(grow, step.find_state, pool=None)


def test_sums_that_the_replay_allocates_become_zero(graphs, monkeypatch):
    """As those of layers that the host leaves out at random."""
    step = Counting()

    def record_with_sum(graph, _, pool):
        graph.step = lambda: (step(), step.sums.append(torch.ones(2)))

    monkeypatch.setattr(captured_steps, "_record_step", record_with_sum)
    with pytest.raises(CaptureError, match="do not both have: sum 1"):
        capture_step(step, step.find_state, pool=None)
    assert [float(total.sum()) for total in step.sums] == [0.0, 0.0]
