"""Trace a module: record every operator call of one run.

It runs on an image without content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from lightning_modules.profiling.operators import UNCOUNTED_PREFIXES, DispatchedOperator, ObservedTensor
from lightning_modules.profiling.receptive_field import (
    CollapsedField,
    ReceptiveField,
    broadcast_field,
    image_receptive_field,
    unite_fields,
)
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.text import format_count

LEAF_MODULES = (nn.MultiheadAttention,)  # reads its children's weights and does not call them


@dataclass(kw_only=True)
class OperatorCall:
    """A layer, or a function called outside of layers, as it ran.

    Attributes:
        layer_path: the layer's; of a function, the path of the calling module and the function's name.
        kind: the class of the layer, or the function's name.
        is_computing: whether an operator that computes ran in it.
    """

    layer_path: str
    kind: str
    is_function: bool = False
    is_computing: bool = False
    output_shape: tuple[int, ...] = ()
    num_parameters: int = 0
    multiply_adds: int = 0
    receptive_field: ReceptiveField = None
    depth: int = 0

    def finish(self, output: torch.Tensor | None, observed: ObservedTensor | None) -> None:
        """Record the output's shape, without the batch, and its facts.

        Without facts, it does not depend on the image.
        """
        self.output_shape = tuple(output.shape[1:]) if output is not None else ()
        self.depth, self.receptive_field = observed or ObservedTensor(0, CollapsedField(size=0))


@dataclass(kw_only=True)
class ModuleTrace:
    """The record of one run.

    Attributes:
        output: what the module returned.
        observed_output: facts about the output's first tensor; ``None`` if it does not depend on the image.
        used_parameters: those that the run used, each with whether a convolution did.
        num_nonlinearities: calls of element-wise nonlinear functions on maps.
    """

    output: Any = None
    observed_output: ObservedTensor | None = None
    calls: list[OperatorCall] = field(default_factory=list)
    function_counts: Counter[str] = field(default_factory=Counter)
    used_parameters: dict[nn.Parameter, bool] = field(default_factory=dict)
    num_nonlinearities: int = 0
    uncounted_operators: set[str] = field(default_factory=set)


def trace_module(module: nn.Module, image_shape: tuple[int, int, int]) -> ModuleTrace:
    """Run a module in inference on one image ``(channels, height, width)``.

    On the module's own device, in its own precision.

    Raises:
        UserError: for a forward pass that fails; with the layer, the image's shape and the error.
    """
    float_tensors = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
    like = float_tensors[0] if float_tensors else torch.empty(0, device="meta")
    tracer = _Tracer()
    with (
        torch.no_grad(),
        like.device,  # for tensors that the forward pass creates
        sdpa_kernel(SDPBackend.MATH),  # attention as matrix products, which have rules, not as one fused operator
        _tracing_hooks(module, tracer),
        _inference_mode(module),
    ):
        pixels = like.new_zeros(1, *image_shape)
        tracer.observed[pixels] = ObservedTensor(0, image_receptive_field(pixels))
        try:
            with tracer:
                tracer.trace.output = module(pixels)
        except Exception as error:
            message = _failure_message(module, image_shape, tracer.failed_layer, error)
            raise UserError(message + _channels_hint(module, image_shape, like)) from error
    first = first_tensor(tracer.trace.output)
    tracer.trace.observed_output = None if first is None else tracer.observed.get(first)
    return tracer.trace


def first_tensor(output: Any) -> torch.Tensor | None:
    """Return the first tensor of a module's output, however it is nested."""
    return next((leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)), None)


def _failure_message(module: nn.Module, image_shape: tuple[int, ...], running_layer: str, error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    location = f", in {running_layer}" if running_layer else ""
    reason = lines[0]
    if reason == "Invalid channel dimensions":  # of torch, without the numbers
        layer = dict(module.named_modules()).get(running_layer.partition(" ")[0])
        reason = f"it takes {getattr(layer, 'in_channels', 'other')} channels, and is given another number of them"
    return f"{type(module).__name__} fails on an image of {' x '.join(map(str, image_shape))}{location}: {reason}"


def _channels_hint(module: nn.Module, image_shape: tuple[int, int, int], like: torch.Tensor) -> str:
    """Say so where a module fails only because its images have another number of channels."""
    channels, *sides = image_shape
    other_channels = 3 if channels == 1 else 1
    try:
        module(like.new_zeros(1, other_channels, *sides))
    except Exception:  # then channels are not, or not alone, what is wrong
        return ""
    return (
        f". This protocol's images have {format_count(channels, 'channel')}, and the network takes "
        f"{other_channels}. Let its class take their number, by an argument such as '$channels', or use a protocol "
        f"{'of color images, such as cifar10' if channels == 1 else 'of gray images, such as digits'}."
    )


@contextmanager
def _inference_mode(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode, then restore every submodule's own mode."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    is_fast_path_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole layer, which would hide all others
    module.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast_path_enabled)
        for submodule, is_training in modes.items():
            submodule.training = is_training


@contextmanager
def _tracing_hooks(module: nn.Module, tracer: _Tracer) -> Iterator[None]:
    """Tell the tracer when each submodule begins and ends to run."""
    handles = []
    for layer_path, submodule in module.named_modules():
        is_leaf = _is_leaf(submodule, module)
        kind = type(submodule).__name__
        handles.append(submodule.register_forward_pre_hook(_make_enter_hook(tracer, layer_path, kind, is_leaf)))
        handles.append(submodule.register_forward_hook(_make_leave_hook(tracer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_leaf(submodule: nn.Module, root: nn.Module) -> bool:
    """Whether a submodule is one layer.

    A root without children is one only if it is PyTorch's own.
    """
    if isinstance(submodule, LEAF_MODULES):
        return True
    if any(submodule.children()):
        return False
    return submodule is not root or type(submodule).__module__.startswith("torch.nn.")


def _make_enter_hook(tracer: _Tracer, layer_path: str, kind: str, is_leaf: bool) -> Any:
    return lambda *_: tracer.enter_module(layer_path, kind, is_leaf=is_leaf)


def _make_leave_hook(tracer: _Tracer) -> Any:
    return lambda _, __, output: tracer.leave_module(output)


class _Tracer(TorchDispatchMode):
    """Follow the image through every operator.

    Tensors are told apart by identity, as they have no content.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = ModuleTrace()
        self.observed: MutableMapping[torch.Tensor, ObservedTensor] = WeakTensorKeyDictionary()
        # Parameters that a weight is a view or a function of.
        self.parameter_sources: MutableMapping[torch.Tensor, tuple[nn.Parameter, ...]]
        self.parameter_sources = WeakTensorKeyDictionary()
        # Layer path and kind of the running modules; and the call of the one that is a layer.
        self.module_stack: list[tuple[str, str, OperatorCall | None]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: to skip would import torch's compiler, for a second.

        Nothing is compiled under this mode.
        """
        return False

    @property
    def failed_layer(self) -> str:
        """Innermost submodule that was running: ``features.12 (MaxPool2d)``.

        Empty for the module itself.
        """
        layer_path, kind, _ = self.module_stack[-1] if self.module_stack else ("", "", None)
        return f"{layer_path} ({kind})" if layer_path else ""

    def enter_module(self, layer_path: str, kind: str, *, is_leaf: bool) -> None:
        """Note that a submodule begins to run.

        The outermost leaf is the layer that operators are counted for.
        """
        is_layer = is_leaf and self._current_layer() is None
        call = OperatorCall(layer_path=layer_path, kind=kind) if is_layer else None
        self.module_stack.append((layer_path, kind, call))

    def leave_module(self, output: Any) -> None:
        """Note that a submodule has run."""
        _, _, call = self.module_stack.pop()
        if call is None or not call.is_computing:
            return
        first = first_tensor(output)
        call.finish(first, self.observed.get(first) if first is not None else None)
        self.trace.calls.append(call)

    def _current_layer(self) -> OperatorCall | None:
        for _, _, call in self.module_stack:
            if call is not None:
                return call
        return None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = _run_operator(func, args, kwargs or {})
        operation = DispatchedOperator(func, args, kwargs or {}, output, self.observed)
        sources = self._find_sources(operation.input_tensors)
        for tensor in operation.output_tensors:
            if operation.image_inputs:
                self.observed[tensor] = operation.observe_output(tensor)
            elif sources:
                self.parameter_sources[tensor] = sources
        self._update_viewed_tensor(operation)
        if operation.image_inputs or operation.multiply_adds:
            self._record_operator(operation, sources)
        return output

    def _find_sources(self, tensors: Iterable[torch.Tensor]) -> tuple[nn.Parameter, ...]:
        """Find the parameters that tensors are, or are made of, each once."""
        sources: dict[nn.Parameter, None] = {}  # a set in the order of insertion
        for tensor in tensors:
            if isinstance(tensor, nn.Parameter):
                sources[tensor] = None
            else:
                sources.update(dict.fromkeys(self.parameter_sources.get(tensor, ())))
        return tuple(sources)

    def _record_operator(self, operation: DispatchedOperator, sources: tuple[nn.Parameter, ...]) -> None:
        num_new_parameters = self._mark_used(sources, is_convolution=operation.name == "convolution")
        if not operation.output_tensors:
            return
        if operation.image_inputs and operation.is_nonlinearity:
            self.trace.num_nonlinearities += 1
        if not operation.is_computation:
            return
        first = operation.output_tensors[0]
        call = self._current_call(operation)
        call.num_parameters += num_new_parameters
        call.multiply_adds += operation.multiply_adds
        if call.is_function:
            call.finish(first, self.observed.get(first))
        if operation.name.startswith(UNCOUNTED_PREFIXES):
            self.trace.uncounted_operators.add(operation.readable_name)

    def _current_call(self, operation: DispatchedOperator) -> OperatorCall:
        """Return the running layer's call, or a new one for a function."""
        layer = self._current_layer()
        if layer is not None:
            layer.is_computing = True
            return layer
        name = operation.readable_name
        self.trace.function_counts[name] += 1
        caller_path = self.module_stack[-1][0] if self.module_stack else ""
        layer_path = f"{caller_path}.{name}" if caller_path else name
        call = OperatorCall(layer_path=layer_path, kind=name, is_function=True)
        self.trace.calls.append(call)
        return call

    def _mark_used(self, parameters: Iterable[nn.Parameter], *, is_convolution: bool) -> int:
        """Mark parameters as used; return how many numbers are newly used."""
        used = self.trace.used_parameters
        num_new = 0
        for parameter in parameters:
            if parameter not in used:
                num_new += parameter.numel()
            used[parameter] = used.get(parameter, False) or is_convolution
        return num_new

    def _update_viewed_tensor(self, operation: DispatchedOperator) -> None:
        """Add facts about a write into a view to the viewed tensor.

        Such a write is ``whole[:, :16] = maps``.
        """
        view = operation.arguments.get("self")
        if not (operation.is_in_place and isinstance(view, torch.Tensor) and view in self.observed):
            return
        base = view._base
        if base is None:
            return
        written, before = self.observed[view], self.observed.get(base)
        fields = [broadcast_field(written.receptive_field, view.shape, base.shape)]
        depth = written.depth
        if before is not None:
            fields.insert(0, before.receptive_field)
            depth = max(depth, before.depth)
        self.observed[base] = ObservedTensor(depth, unite_fields(fields))


def _run_operator(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator."""
    # torch decomposes a linear layer on the meta device by code that imports its compiler, which takes a second.
    if func is torch.ops.aten.addmm.default and args[1].is_meta and not kwargs:
        return torch.mm(args[1], args[2])
    return func(*args, **kwargs)
