"""Operator calls as PyTorch's dispatcher receives them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from lightning_modules.profiling.field_rules import receptive_field_after
from lightning_modules.profiling.receptive_field import (
    MATRIX_OPERANDS,
    AppliedOperator,
    ReceptiveField,
    broadcast_field,
)

# Common names of operators that PyTorch's dispatcher calls otherwise.
READABLE_NAMES = {
    "convolution": "conv2d", "addmm": "linear", "mm": "linear", "bmm": "matmul", "baddbmm": "matmul",
    "max_pool2d_with_indices": "max_pool2d", "constant_pad_nd": "pad", "reflection_pad2d": "pad",
    "replication_pad2d": "pad", "native_batch_norm": "batch_norm", "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm", "native_channel_shuffle": "channel_shuffle", "_prelu_kernel": "prelu",
    "log_sigmoid_forward": "logsigmoid", "rrelu_with_noise": "rrelu", "_safe_softmax": "softmax",
    "upsample_nearest2d": "interpolate", "upsample_bilinear2d": "interpolate", "upsample_bicubic2d": "interpolate",
    "_upsample_nearest_exact2d": "interpolate", "im2col": "unfold", "col2im": "fold",
}  # fmt: skip

# Operators that move, reshape or create numbers and compute none. A slice that leaves something out is not among them.
BOOKKEEPING_OPERATORS = {
    "view", "_unsafe_view", "_reshape_alias", "alias", "detach", "clone", "contiguous", "expand", "unsqueeze",
    "squeeze", "permute", "transpose", "t", "select", "unbind", "split", "split_with_sizes", "copy", "_to_copy",
    "lift_fresh", "resize", "repeat",
}  # fmt: skip

# Operators that make a tensor of another one's shape, independent of its content.
LIKE_FACTORIES = {
    "empty_like", "zeros_like", "ones_like", "full_like", "new_empty", "new_zeros", "new_ones", "new_full",
}  # fmt: skip

ACTIVATIONS = {
    "relu", "relu6", "gelu", "tanh", "sigmoid", "silu", "leaky_relu", "elu", "celu", "selu", "hardtanh", "hardswish",
    "hardsigmoid", "mish", "softplus", "prelu", "rrelu", "logsigmoid", "hardshrink", "softshrink", "threshold", "glu",
    # As functions are written by hand; Softsign is made of an abs. Powers, roots and exp are not among them:
    # normalizations and softmax are made of these.
    "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "fmax", "fmin", "abs", "sign", "sin", "cos", "atan",
    "asinh", "erf", "heaviside",
}  # fmt: skip

# Operators that choose by a condition: nonlinear where the condition depends on the image.
SELECTIONS = {"where", "masked_fill", "mul"}
LARGEST_GUARD = 1e-3  # lower bound of a clamp that keeps a divisor from zero, and shapes nothing

# Operators with much arithmetic that `multiply_adds` has no rule for.
UNCOUNTED_PREFIXES = (
    "_fft_", "_linalg_", "linalg_qr", "linalg_inv", "linalg_eig", "linalg_cholesky", "_cdist", "grid_sampler",
    "_trilinear", "mkldnn_rnn", "_thnn_fused", "_cudnn_rnn", "deform_conv", "mv", "addmv", "dot", "addbmm",
    "_scaled_", "_native_multi_head", "_transformer_encoder",
)  # fmt: skip


class ObservedTensor(NamedTuple):
    """Facts about a tensor that depends on the image.

    Attributes:
        depth: convolutions and fully connected layers on the longest path to it.
    """

    depth: int
    receptive_field: ReceptiveField


class DispatchedOperator:
    """One call of the dispatcher.

    Attributes:
        name: the operator's, without the underscore that marks it as in-place.
        arguments: by name, defaults included.
        input_tensors, output_tensors: also those in lists.
        image_inputs: the inputs that depend on the image, with the facts about them.
    """

    def __init__(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
        observed: Mapping[torch.Tensor, ObservedTensor],
    ) -> None:
        full_name: str = func._schema.name.split("::")[-1]
        self.is_in_place = full_name.endswith("_") and not full_name.endswith("__")  # `__and__` is not in-place
        self.name = full_name.removesuffix("_") if self.is_in_place else full_name
        self.is_pointwise = torch.Tag.pointwise in func.tags
        self.arguments = _bind_arguments(func, args, kwargs)
        self.input_tensors = list(_iterate_tensors((*args, *kwargs.values())))
        self.output_tensors = list(_iterate_tensors((output,)))
        content_tensors = () if self.name in LIKE_FACTORIES else self.input_tensors
        self.image_inputs = [(tensor, observed[tensor]) for tensor in content_tensors if tensor in observed]

    @property
    def readable_name(self) -> str:
        """The operator's common name."""
        if self.name in MATRIX_OPERANDS and not self.has_weight:
            return "matmul"
        return READABLE_NAMES.get(self.name, self.name.removeprefix("_"))

    @property
    def is_nonlinearity(self) -> bool:
        """Whether the operator is an element-wise nonlinear function of a map (four dimensions)."""
        if self.output_tensors[0].dim() != 4:
            return False
        if self.name in SELECTIONS:
            return any(tensor.dtype == torch.bool for tensor, _ in self.image_inputs)
        if self.name == "_to_copy":  # of a condition on the map to numbers, as in `x * (x > 0).float()`
            return self.image_inputs[0][0].dtype == torch.bool and self.output_tensors[0].is_floating_point()
        if self.name in ("max", "amax"):
            return self._is_maxout
        return self.readable_name in ACTIVATIONS and not self._is_guard

    @property
    def _is_maxout(self) -> bool:
        """Whether it is the maximum within groups of channels, or of stacked maps: not that over positions."""
        dims = self.arguments.get("dim")
        reduced = [dims] if isinstance(dims, int) else dims or []
        is_grouped = self.arguments["self"].dim() == 5  # all channels at once may be those of a softmax by hand
        return is_grouped and bool(reduced) and all(dim % 5 < 3 for dim in reduced)

    @property
    def _is_guard(self) -> bool:
        """Whether it only keeps a divisor from zero, as in ``functional.normalize``."""
        lowest = self.arguments.get("min")
        is_small = isinstance(lowest, float) and 0 < lowest <= LARGEST_GUARD
        return is_small and self.name in ("clamp", "clamp_min") and self.arguments.get("max") is None

    @property
    def is_computation(self) -> bool:
        """Whether the operator computes or selects, rather than only rearranging."""
        if self.name == "slice":
            return bool(self.arguments["self"].shape != self.output_tensors[0].shape)
        return self.name not in BOOKKEEPING_OPERATORS

    @property
    def has_weight(self) -> bool:
        """Whether the operator applies a weight.

        It is a convolution, or a product by a matrix that does not depend on the image.

        The product of two matrices that both do, as in attention, has no weights.
        """
        if self.name == "convolution":
            return True
        image_tensor_ids = {id(tensor) for tensor, _ in self.image_inputs}
        operand_names = MATRIX_OPERANDS.get(self.name, ())
        return any(id(self.arguments[name]) not in image_tensor_ids for name in operand_names)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a convolution or a matrix product.

        The addition of a bias does not count.
        """
        if self.name in MATRIX_OPERANDS:
            return int(self.output_tensors[0].numel() * self.arguments[MATRIX_OPERANDS[self.name][0]].shape[-1])
        if self.name != "convolution":
            return 0
        # A kernel is applied once per output number; of a transposed convolution, once per input number.
        positions = self.arguments["input"] if self.arguments["transposed"] else self.output_tensors[0]
        return int(positions.numel() * math.prod(self.arguments["weight"].shape[1:]))

    def observe_output(self, output: torch.Tensor) -> ObservedTensor:
        """Derive the facts about an output from those about the inputs."""
        if self.name == "copy":  # what the overwritten tensor held does not matter
            return self._observe_copy(output)
        call = AppliedOperator(
            name=self.name,
            is_pointwise=self.is_pointwise,
            arguments=self.arguments,
            inputs=[(tensor, facts.receptive_field) for tensor, facts in self.image_inputs],
            output=output,
        )
        input_depth = max(facts.depth for _, facts in self.image_inputs)
        return ObservedTensor(input_depth + self.has_weight, receptive_field_after(call))

    def _observe_copy(self, output: torch.Tensor) -> ObservedTensor:
        source, facts = self.image_inputs[-1]
        return facts._replace(receptive_field=broadcast_field(facts.receptive_field, source.shape, output.shape))


def _bind_arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    declared = func._schema.arguments
    bound = {}
    for position, argument in enumerate(declared):
        bound[argument.name] = args[position] if position < len(args) else argument.default_value
    return bound | dict(kwargs)


def _iterate_tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors among values, and in lists among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (inner for inner in value if isinstance(inner, torch.Tensor))
