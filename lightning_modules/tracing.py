"""A module run once on an image without content, and what every operation on the way was, cost and saw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from lightning_modules.fields import MATRICES, Call, Field, Gone, aligned, field_after, image_field, united
from lightning_modules.values import Misuse

# What PyTorch's dispatcher calls an operation, where people call it otherwise; a last underscore means "in place".
READABLE = {
    "convolution": "conv2d", "addmm": "linear", "mm": "linear", "bmm": "matmul", "baddbmm": "matmul",
    "max_pool2d_with_indices": "max_pool2d", "constant_pad_nd": "pad", "reflection_pad2d": "pad",
    "replication_pad2d": "pad", "native_batch_norm": "batch_norm", "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm", "native_channel_shuffle": "channel_shuffle", "_prelu_kernel": "prelu",
    "log_sigmoid_forward": "logsigmoid", "rrelu_with_noise": "rrelu", "_safe_softmax": "softmax",
    "upsample_nearest2d": "interpolate", "upsample_bilinear2d": "interpolate", "upsample_bicubic2d": "interpolate",
    "_upsample_nearest_exact2d": "interpolate", "im2col": "unfold", "col2im": "fold",
}  # fmt: skip
# They move, name or make numbers and compute none. A slice that leaves something out is not among them.
BOOKKEEPING = {
    "view", "_unsafe_view", "_reshape_alias", "alias", "detach", "clone", "contiguous", "expand", "unsqueeze",
    "squeeze", "permute", "transpose", "t", "select", "unbind", "split", "split_with_sizes", "copy", "_to_copy",
    "lift_fresh", "resize", "repeat",
}  # fmt: skip
# They make a tensor like another one, and take nothing of what is in it.
LIKE = {"empty_like", "zeros_like", "ones_like", "full_like", "new_empty", "new_zeros", "new_ones", "new_full"}
ACTIVATIONS = {
    "relu", "relu6", "gelu", "tanh", "sigmoid", "silu", "leaky_relu", "elu", "celu", "selu", "hardtanh", "hardswish",
    "hardsigmoid", "mish", "softplus", "prelu", "rrelu", "logsigmoid", "hardshrink", "softshrink", "threshold",
}  # fmt: skip
# Much arithmetic, for which there is no rule here.
UNCOUNTED = (
    "_fft_", "_linalg_", "linalg_qr", "linalg_inv", "linalg_eig", "linalg_cholesky", "_cdist", "grid_sampler",
    "_trilinear", "mkldnn_rnn", "_thnn_fused", "_cudnn_rnn", "deform_conv", "mv", "addmv", "dot", "addbmm",
    "_scaled_", "_native_multi_head", "_transformer_encoder",
)  # fmt: skip
LEAVES = (nn.MultiheadAttention,)  # reads its children's weights and does not call them


class Seen(NamedTuple):
    """What is known of a tensor that comes from the image.

    Attributes:
        depth: convolutions and fully connected layers on the longest path to it.
    """

    depth: int
    field: Field


@dataclass(kw_only=True)
class Row:
    """A layer, or a function called outside layers, as it ran."""

    place: str
    kind: str
    is_function: bool = False
    computes: bool = False
    output: tuple[int, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0
    field: Field = None
    depth: int = 0

    def end(self, output: torch.Tensor | None, seen: Seen | None) -> None:
        """Keep the shape of what came out, without the batch, and what it sees: nothing, if it is not of the image."""
        self.output = tuple(output.shape[1:]) if output is not None else ()
        self.depth, self.field = seen or Seen(0, Gone(side=0))


@dataclass(kw_only=True)
class Traced:
    """All that one run told.

    Attributes:
        output: what the module returned.
        seen: of its first tensor.
    """

    output: Any = None
    seen: Seen | None = None
    rows: list[Row] = field(default_factory=list)
    functions: Counter[str] = field(default_factory=Counter)
    parameters: dict[nn.Parameter, bool] = field(default_factory=dict)  # that were used: by a convolution?
    nonlinearities: int = 0
    uncounted: set[str] = field(default_factory=set)


def trace(module: nn.Module, image: tuple[int, int, int]) -> Traced:
    """Run a module in inference on one image ``(channels, height, width)``, on its own device, in its own precision.

    Raises:
        Misuse: where its forward fails, with the place, the image's shape and the message.
    """
    held = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
    like = held[0] if held else torch.empty(0, device="meta")
    tracer = _Tracer()
    with torch.no_grad(), like.device, sdpa_kernel(SDPBackend.MATH), _hooked(module, tracer), _eval(module):
        pixels = like.new_zeros(1, *image)
        tracer.seen[pixels] = Seen(0, image_field(pixels))
        try:
            with tracer:
                tracer.told.output = module(pixels)
        except Exception as error:
            raise Misuse(_failure(module, image, tracer.failed_in, error)) from error
    first = first_tensor(tracer.told.output)
    tracer.told.seen = None if first is None else tracer.seen.get(first)
    return tracer.told


def first_tensor(output: Any) -> torch.Tensor | None:
    """The first tensor of what a module returned, however it is packed."""
    return next((leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)), None)


def _failure(module: nn.Module, image: tuple[int, ...], running: str, error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    where = f", in {running}" if running else ""
    return f"{type(module).__name__} fails on an image of {' x '.join(map(str, image))}{where}: {lines[0]}"


@contextmanager
def _eval(module: nn.Module) -> Iterator[None]:
    """Inference for as long as this lasts; then every part is back in its own mode."""
    modes = {part: part.training for part in module.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation that hides all others
    module.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def _hooked(module: nn.Module, tracer: _Tracer) -> Iterator[None]:
    handles = []
    for place, part in module.named_modules():
        of_torch = type(part).__module__.startswith("torch.nn.")
        leaf = isinstance(part, LEAVES) or (not any(part.children()) and (part is not module or of_torch))
        row = (place, type(part).__name__, leaf)
        handles.append(part.register_forward_pre_hook(_entering(tracer, *row)))
        handles.append(part.register_forward_hook(_leaving(tracer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _entering(tracer: _Tracer, place: str, kind: str, leaf: bool) -> Any:
    return lambda *_: tracer.enter(place, kind, leaf=leaf)


def _leaving(tracer: _Tracer) -> Any:
    return lambda _, __, output: tracer.leave(output)


def _result(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation gives. A linear layer without values torch takes apart, for which it loads its compiler."""
    if func is torch.ops.aten.addmm.default and args[1].is_meta and not kwargs:
        return torch.mm(args[1], args[2])
    return func(*args, **kwargs)


class _Tracer(TorchDispatchMode):
    """Follows the image through every operation. Tensors are known by what they are, not by their numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.told = Traced()
        self.seen: MutableMapping[torch.Tensor, Seen] = WeakTensorKeyDictionary()
        # The parameters that a weight is made of, where it is a view of one or a function of some.
        self.sources: MutableMapping[torch.Tensor, tuple[nn.Parameter, ...]]
        self.sources = WeakTensorKeyDictionary()
        self.running: list[tuple[str, str, Row | None]] = []  # place, kind, and the row of a layer

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nobody compiles under it, and to be left out torch would load its compiler, which takes a second."""
        return False

    @property
    def failed_in(self) -> str:
        """The innermost part that was running."""
        places = [f"{place} ({kind})" for place, kind, _ in self.running if place]
        return places[-1] if places else ""

    def enter(self, place: str, kind: str, *, leaf: bool) -> None:
        """A part begins to run."""
        opens = leaf and self._layer() is None
        self.running.append((place, kind, Row(place=place, kind=kind) if opens else None))

    def leave(self, output: Any) -> None:
        """A part has run."""
        _, _, row = self.running.pop()
        if row is None or not row.computes:
            return
        first = first_tensor(output)
        row.end(first, self.seen.get(first) if first is not None else None)
        self.told.rows.append(row)

    def _layer(self) -> Row | None:
        return next((row for _, _, row in self.running if row is not None), None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = _result(func, args, kwargs or {})
        operation = _Operation(func, args, kwargs or {}, output, self.seen)
        sources = self._sources(operation.tensors)
        for tensor in operation.outputs:
            if operation.from_image:
                self.seen[tensor] = operation.after(tensor)
            elif sources:
                self.sources[tensor] = sources
        self._written_through(operation)
        if operation.from_image or operation.multiply_adds:
            self._record(operation, sources)
        return output

    def _sources(self, tensors: Iterable[torch.Tensor]) -> tuple[nn.Parameter, ...]:
        found: dict[nn.Parameter, None] = {}
        for tensor in tensors:
            if isinstance(tensor, nn.Parameter):
                found[tensor] = None
            else:
                found.update(dict.fromkeys(self.sources.get(tensor, ())))
        return tuple(found)

    def _record(self, operation: _Operation, sources: tuple[nn.Parameter, ...]) -> None:
        new = self._used(sources, by_convolution=operation.name == "convolution")
        if not (operation.computes and operation.outputs):
            return
        first = operation.outputs[0]
        row = self._row(operation)
        row.parameters += new
        row.multiply_adds += operation.multiply_adds
        if row.is_function:
            row.end(first, self.seen.get(first))
        if operation.readable in ACTIVATIONS and first.dim() == 4:
            self.told.nonlinearities += 1
        if operation.name.startswith(UNCOUNTED):
            self.told.uncounted.add(operation.readable)

    def _row(self, operation: _Operation) -> Row:
        layer = self._layer()
        if layer is not None:
            layer.computes = True
            return layer
        name = operation.readable
        self.told.functions[name] += 1
        inside = self.running[-1][0] if self.running else ""
        self.told.rows.append(Row(place=f"{inside}.{name}" if inside else name, kind=name, is_function=True))
        return self.told.rows[-1]

    def _used(self, parameters: Iterable[nn.Parameter], *, by_convolution: bool) -> int:
        """How many numbers are in those parameters that were not used before."""
        known = self.told.parameters
        new = [parameter for parameter in parameters if parameter not in known]
        for parameter in parameters:
            known[parameter] = known.get(parameter, False) or by_convolution
        return sum(parameter.numel() for parameter in new)

    def _written_through(self, operation: _Operation) -> None:
        """What was written into a view is in the tensor that is viewed, too: ``whole[:, :16] = maps``."""
        view = operation.arguments.get("self")
        if not (operation.in_place and isinstance(view, torch.Tensor) and view in self.seen) or view._base is None:
            return
        base = view._base
        written, before = self.seen[view], self.seen.get(base)
        there = aligned(written.field, view.shape, base.shape)
        fields = [there] if before is None else [before.field, there]
        self.seen[base] = Seen(max(written.depth, before.depth if before else 0), united(fields))


class _Operation:
    """One call of the dispatcher: tensors in, among them those from the image, and tensors out."""

    def __init__(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
        seen: Mapping[torch.Tensor, Seen],
    ) -> None:
        full: str = func._schema.name.split("::")[-1]
        self.in_place = full.endswith("_") and not full.endswith("__")
        self.name = full.removesuffix("_") if self.in_place else full
        self.pointwise = torch.Tag.pointwise in func.tags
        self.arguments = _by_name(func, args, kwargs)
        self.tensors = list(_tensors((*args, *kwargs.values())))
        self.outputs = list(_tensors((output,)))
        read = () if self.name in LIKE else self.tensors
        self.from_image = [(tensor, seen[tensor]) for tensor in read if tensor in seen]

    @property
    def readable(self) -> str:
        """The name that people use."""
        if self.name in MATRICES and not self.has_weight:
            return "matmul"
        return READABLE.get(self.name, self.name.removeprefix("_"))

    @property
    def computes(self) -> bool:
        """Whether it is more than bookkeeping."""
        if self.name == "slice":
            return bool(self.arguments["self"].shape != self.outputs[0].shape)
        return self.name not in BOOKKEEPING

    @property
    def has_weight(self) -> bool:
        """Whether it is a layer of weights: a convolution, or a product by a matrix that is not from the image."""
        from_image = [tensor for tensor, _ in self.from_image]
        matrices = [self.arguments[name] for name in MATRICES.get(self.name, ())]
        return self.name == "convolution" or (
            bool(matrices) and not all(any(matrix is tensor for tensor in from_image) for matrix in matrices)
        )

    @property
    def multiply_adds(self) -> int:
        """Of a convolution or a matrix product; the addition of a bias does not count."""
        if self.name in MATRICES:
            return int(self.outputs[0].numel() * self.arguments[MATRICES[self.name][0]].shape[-1])
        if self.name != "convolution":
            return 0
        swept = self.arguments["input"] if self.arguments["transposed"] else self.outputs[0]
        return int(swept.numel() * math.prod(self.arguments["weight"].shape[1:]))

    def after(self, output: torch.Tensor) -> Seen:
        """What is known of an output."""
        if self.name == "copy":  # the tensor that is written over does not matter
            return self._copied(output)
        call = Call(
            name=self.name,
            pointwise=self.pointwise,
            arguments=self.arguments,
            inputs=[(tensor, seen.field) for tensor, seen in self.from_image],
            output=output,
        )
        return Seen(max(seen.depth for _, seen in self.from_image) + self.has_weight, field_after(call))

    def _copied(self, output: torch.Tensor) -> Seen:
        tensor, seen = self.from_image[-1]
        return seen._replace(field=aligned(seen.field, tensor.shape, output.shape))


def _by_name(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    declared = func._schema.arguments
    named = {argument.name: argument.default_value for argument in declared[len(args) :]}
    return {argument.name: value for argument, value in zip(declared, args, strict=False)} | named | dict(kwargs)


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors among values, and in lists among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (inner for inner in value if isinstance(inner, torch.Tensor))
