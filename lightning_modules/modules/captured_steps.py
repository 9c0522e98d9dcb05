"""Training steps as CUDA graphs: captured once, then replayed by one call of the host each.

A step of a small network is hundreds of kernels of a few microseconds, and launching them one by one takes the host
several times as long as the GPU needs to run them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

RELATIVE_TOLERANCE = 0.02  # of a tensor's norm, between a captured and an ordinary step in bfloat16


class CaptureError(RuntimeError):
    """A step that cannot be captured; the text says why."""


class CaptureGate:
    """Lets the threads of a process replay graphs side by side, and one capture or destroy graphs while none replays.

    Threads share the allocator, the libraries' handles and the default generator. PyTorch up to 2.11 raises from a
    replay while another thread captures ("Offset increment outside graph capture encountered unexpectedly"), as both
    graphs register that generator.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._num_replaying = 0
        self._is_closed = False

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Wait until no thread captures, and keep captures waiting meanwhile."""
        with self._condition:
            while self._is_closed:
                self._condition.wait()
            self._num_replaying += 1
        try:
            yield
        finally:
            with self._condition:
                self._num_replaying -= 1
                if not self._num_replaying:
                    self._condition.notify_all()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Wait until no other thread captures or replays, and keep all of them waiting meanwhile."""
        with self._condition:
            while self._is_closed:
                self._condition.wait()
            self._is_closed = True  # before those that replay have ended: new ones must not delay it for ever
            while self._num_replaying:
                self._condition.wait()
        try:
            yield
        finally:
            with self._condition:
                self._is_closed = False
                self._condition.notify_all()


_gate = CaptureGate()


@dataclass(frozen=True)
class StateCopy:
    """Values of a :class:`StepState`: of its tensors by name, and of its generators."""

    tensors: Mapping[str, torch.Tensor]
    generator_states: Sequence[torch.Tensor]


@dataclass(frozen=True)
class StepState:
    """What a step changes: tensors in place, and generators.

    Attributes:
        tensors: by name: weights, buffers, momentum, sums of the metrics, places in tables.
        generators: from which the step draws.
        sums: names of the tensors that are zero when a step first allocates them.
    """

    tensors: Mapping[str, torch.Tensor]
    generators: Sequence[torch.Generator]
    sums: Collection[str] = ()

    def copy(self) -> StateCopy:
        """Copy all tensors, and the states of the generators."""
        tensors = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        return StateCopy(tensors, [generator.get_state() for generator in self.generators])

    def restore(self, copy: StateCopy) -> None:
        """Set everything to what :meth:`copy` returned, in place; sums that were not allocated then become zero.

        A tensor that took another one's place gets that one's values, if it has its shape.
        """
        shapes = {name: tensor.shape for name, tensor in self.tensors.items()}
        names = [name for name, values in copy.tensors.items() if shapes.get(name) == values.shape]
        with torch.no_grad():
            # One launch for hundreds of tensors.
            torch._foreach_copy_([self.tensors[name] for name in names], [copy.tensors[name] for name in names])
            for name in self.sums:
                if name not in copy.tensors:
                    self.tensors[name].zero_()
        for generator, state in zip(self.generators, copy.generator_states, strict=True):
            generator.set_state(state)


class CapturedSteps:
    """Steps on the current CUDA stream, each captured when it is first taken.

    Args:
        find_state: returns what a step changes.
    """

    def __init__(self, find_state: Callable[[], StepState]) -> None:
        self.find_state = find_state
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        # One pool of memory for all: no two of them run at once, and none reads what another left in the pool.
        self.pool = torch.cuda.graph_pool_handle()

    def take(self, key: Hashable, step: Callable[[], None]) -> None:
        """Take a step: replay the graph of the key, captured from ``step`` where there is none yet.

        Args:
            key: what distinguishes this step from the others in shapes and kernels: the size of the batch, say.
            step: launches the step's work on the device, and changes nothing on the host.

        Raises:
            CaptureError: where the step cannot be captured, or its graph does something else; nothing has changed then.
        """
        if key not in self.graphs:
            with _gate.capturing():
                self.graphs[key] = capture_step(step, self.find_state, self.pool)
        with _gate.replaying():
            self.graphs[key].replay()

    def release(self) -> None:
        """Destroy the graphs, which hold a step's activations."""
        with _gate.capturing():
            self.graphs.clear()


def capture_step(step: Callable[[], None], find_state: Callable[[], StepState], pool: Any) -> torch.cuda.CUDAGraph:
    """Capture a step on the current stream, with its tensors in a pool, and compare a replay with an ordinary step.

    The state is restored after each of them, so that every step that counts is a replay: a fit that was resumed, and
    captured its steps anew, then has the bits of one that was not.

    Raises:
        CaptureError: where the step cannot be captured, or the replay changes the state in another way.
    """
    first_state = find_state()
    before = first_state.copy()
    step()  # also makes the libraries' handles and workspaces
    state = find_state()
    expected = state.copy()
    state.restore(before)
    for name, tensor in state.tensors.items():
        if name not in state.sums and first_state.tensors.get(name) is not tensor:
            raise CaptureError(f"a step makes a new tensor of {name}; expected a change in place")
    try:
        graph = _record_with_memory(step, state.generators, pool)
        graph.replay()
        replayed = find_state().copy()
    except torch.OutOfMemoryError as error:
        raise CaptureError("a captured step takes more memory than is free") from error
    except RuntimeError as error:
        raise CaptureError(str(error).strip().splitlines()[0]) from error
    finally:
        find_state().restore(before)
    require_same_change(expected.tensors, replayed.tensors)
    return graph


def _record_with_memory(
    step: Callable[[], None], generators: Iterable[torch.Generator], pool: Any
) -> torch.cuda.CUDAGraph:
    """Record a step, where need be after all cached memory was freed.

    The ordinary step left its activations in the cache. A capture allocates them again in a pool of its own, and frees
    no cache meanwhile. It is not freed beforehand, as ``torch.cuda.graph`` does: seeds that train at once would wait.
    """
    with suppress(torch.OutOfMemoryError):
        return _record_graph(step, generators, pool)
    # Not while the error is handled: its traceback holds the frames of the step, and with them its activations.
    torch.cuda.empty_cache()
    return _record_graph(step, generators, pool)


def _record_graph(step: Callable[[], None], generators: Iterable[torch.Generator], pool: Any) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        if generator not in torch.cuda.default_generators:  # a capture registers these by itself
            graph.register_generator_state(generator)
    _record_step(graph, step, pool)
    return graph


def _record_step(graph: torch.cuda.CUDAGraph, step: Callable[[], None], pool: Any) -> None:
    """Record a step as a graph."""
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        step()
        graph.capture_end()
    except BaseException:
        with suppress(RuntimeError):  # of a capture that failed; the step's own error tells why
            graph.capture_end()
        _leave_capture(pool)
        raise


def _leave_capture(pool: Any) -> None:
    """End what a capture that the driver invalidated has left under way, so that ordinary steps can follow.

    Its ``capture_end`` raises before the allocator stops recording, which would free no memory from then on, and up to
    PyTorch 2.11 before the default generator leaves its capture, so that the next dropout would raise.
    """
    device = torch.cuda.current_device()
    with suppress(RuntimeError):  # of a capture that ended in order
        torch._C._cuda_endAllocateToPool(device, pool)
    generator = torch.cuda.default_generators[device]
    with suppress(RuntimeError):
        generator.graphsafe_set_state(generator.clone_state())


def require_same_change(expected: Mapping[str, torch.Tensor], replayed: Mapping[str, torch.Tensor]) -> None:
    """Compare the state after a replay with the one after an ordinary step.

    Raises:
        CaptureError: where a tensor differs by more than rounding, or a counter at all.
    """
    if expected.keys() != replayed.keys():
        differing = ", ".join(sorted(expected.keys() ^ replayed.keys()))
        raise CaptureError(f"an ordinary step and the replay of a captured one do not both have: {differing}")
    for name, comparison in _compare_changes(expected, replayed).items():
        is_finite = math.isfinite(comparison.norm) and math.isfinite(comparison.difference)
        # A step may overflow, and its replay then does too.
        found = comparison if is_finite else _compare_finite_values(expected[name], replayed[name])
        is_counter = expected[name].numel() == 1 and not expected[name].is_floating_point()
        tolerance = 0.0 if is_counter else RELATIVE_TOLERANCE
        if not found.difference <= tolerance * found.norm:
            raise CaptureError(
                f"{name} differs by {found.difference:.3g} of {found.norm:.3g} between an ordinary step and the replay "
                "of a captured one"
            )


class _Comparison(NamedTuple):
    """The norm of a tensor, and of its difference to another one."""

    norm: float
    difference: float


def _compare_changes(
    expected: Mapping[str, torch.Tensor], replayed: Mapping[str, torch.Tensor]
) -> dict[str, _Comparison]:
    """Compare hundreds of tensors by few launches."""
    comparisons: dict[str, _Comparison] = {}
    # In lists of one type each: of a mixed list, every tensor is a launch. Counters beyond 2^24 need double precision.
    for dtype in (torch.float32, torch.float64):
        names = [name for name, tensor in expected.items() if tensor.is_floating_point() == (dtype == torch.float32)]
        if not names:
            continue
        wanted = [expected[name].to(dtype) for name in names]
        differences = torch._foreach_sub(wanted, [replayed[name].to(dtype) for name in names])
        norms = torch.stack(torch._foreach_norm(wanted)).tolist()
        difference_norms = torch.stack(torch._foreach_norm(differences)).tolist()
        comparisons |= dict(zip(names, map(_Comparison, norms, difference_norms), strict=True))
    return comparisons


def _compare_finite_values(wanted: torch.Tensor, found: torch.Tensor) -> _Comparison:
    """Compare tensors where both are finite; no number as the difference where only one of them is."""
    is_finite = wanted.isfinite()
    finite_values = wanted.double().where(is_finite, 0.0)
    difference = (finite_values - found.double()).where(is_finite, 0.0)
    is_alike = torch.equal(is_finite, found.isfinite())
    return _Comparison(float(finite_values.norm()), float(difference.norm()) if is_alike else math.nan)
