"""An ONNX graph as PyTorch calls, which PyTorch's autograd differentiates; for `steps.py`.

One function per operator, in two tables. An operator or an attribute that is not known here is an error. Round is
straight through: the identity on the way back. Opset 13 and newer; batch normalisation and dropout as in inference.
"""

import functools

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper


class StraightThrough(torch.autograd.Function):
    """Round (half to even), the identity on the way back."""

    @staticmethod
    def forward(context, x):
        return x.round()

    @staticmethod
    def backward(context, dy):
        return dy


def refuse_others(a, **known):
    for name, values in known.items():
        if a.get(name, values[0]) not in values:
            raise NotImplementedError(f"{name} = {a[name]!r} is not known here")


def per_rank(name, x):
    return getattr(F, f"{name}{x.dim() - 2}d")


def padded(x, before, behind, value=0.0):
    pairs = list(zip(before, behind))
    return F.pad(x, [pad for pair in reversed(pairs) for pad in pair], value=value) if any(map(any, pairs)) else x


def halves(totals, auto):
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def window(a, sizes, kernel):
    """Returns strides, dilations, and the pads before and behind each axis."""
    rank, auto = len(kernel), a.get("auto_pad", "NOTSET")
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    pads = a.get("pads", [0] * 2 * rank) if auto == "NOTSET" else [0] * 2 * rank
    before, behind = pads[:rank], pads[rank:]
    if auto.startswith("SAME"):
        reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel)]
        totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sizes, strides, reach)]
        before, behind = halves(totals, auto)
    return strides, dilations, before, behind


def pool_window(a, sizes):
    """Returns what `window` does, and the cells that ceil_mode adds behind each axis."""
    kernel = a["kernel_shape"]
    strides, dilations, before, behind = window(a, sizes, kernel)
    extra = [0] * len(kernel)
    if a.get("ceil_mode") and not a.get("auto_pad", "NOTSET").startswith("SAME"):
        for i, (n, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations)):
            span = n + before[i] + behind[i] - d * (k - 1) - 1
            steps = -(-span // s)
            # A window that would start in the padding behind is none.
            extra[i] = (steps - (steps * s >= n + before[i])) * s - span
    return strides, dilations, before, behind, extra


def conv(a, x, w, b=None):
    strides, dilations, before, behind = window(a, x.shape[2:], w.shape[2:])
    if before != behind:
        x, before = padded(x, before, behind), 0
    return per_rank("conv", x)(x, w, b, strides, before, dilations, a.get("group", 1))


def conv_transpose(a, x, w, b=None):
    rank, sizes, auto = x.dim() - 2, x.shape[2:], a.get("auto_pad", "NOTSET")
    strides, dilations, before, behind = window({**a, "auto_pad": "NOTSET"}, sizes, w.shape[2:])
    more = a.get("output_padding", [0] * rank)
    y = per_rank("conv_transpose", x)(x, w, None, strides, 0, 0, a.get("group", 1), dilations)
    wanted = a.get("output_shape", [n * s for n, s in zip(sizes, strides)] if auto.startswith("SAME") else None)
    if wanted:
        before, behind = halves([n + m - end for n, m, end in zip(y.shape[2:], more, wanted)], auto)
    y = padded(y, [-p for p in before], [m - p for m, p in zip(more, behind)])
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def max_pool(a, x):
    strides, dilations, before, behind, extra = pool_window(a, x.shape[2:])
    x = padded(x, before, [p + e for p, e in zip(behind, extra)], -torch.inf)
    return per_rank("max_pool", x)(x, a["kernel_shape"], strides, 0, dilations)


def average_pool(a, x):
    strides, dilations, before, behind, extra = pool_window(a, x.shape[2:])

    def pool(y, value):
        y = padded(padded(y, before, behind, value), [0] * len(extra), extra)
        if max(dilations) == 1:
            return per_rank("avg_pool", y)(y, a["kernel_shape"], strides)
        ones = y.new_ones(y.shape[1], 1, *a["kernel_shape"])
        return per_rank("conv", y)(y, ones, None, strides, 0, dilations, y.shape[1])

    # The part of each window that counts: padding where the node says so, what ceil_mode adds never.
    return pool(x, 0.0) / pool(x.new_ones(1, 1, *x.shape[2:]), float(a.get("count_include_pad", 0)))


def global_pool(function):
    return lambda a, x: function(x, list(range(2, x.dim())), True)


def batch_normalization(a, x, scale, bias, mean, variance):
    refuse_others(a, training_mode=[0])
    epsilon = a.get("epsilon", 1e-5)
    if not mean.requires_grad and not variance.requires_grad:
        return F.batch_norm(x, mean, variance, scale, bias, False, eps=epsilon)
    scale = scale / torch.sqrt(variance + epsilon)
    shape = [-1, *[1] * (x.dim() - 2)]
    return x * scale.reshape(shape) + (bias - mean * scale).reshape(shape)


def layer_normalization(a, x, scale, bias=None):
    y = F.layer_norm(x, x.shape[a.get("axis", -1):], eps=a.get("epsilon", 1e-5)) * scale
    return y if bias is None else y + bias


def gemm(a, x, w, c=None):
    y = a.get("alpha", 1.0) * ((x.T if a.get("transA") else x) @ (w.T if a.get("transB") else w))
    return y if c is None else y + a.get("beta", 1.0) * c


def divide(x, y):
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def clip(a, x, low=None, high=None):
    low, high = a.get("min") if low is None else low, a.get("max") if high is None else high
    return x if low is None and high is None else torch.clamp(x, low, high)


def reduction(function):
    def call(a, x, axes=None):
        axes = a.get("axes", []) if axes is None else axes.tolist()
        if not axes and a.get("noop_with_empty_axes"):
            return x
        return function(x, axes or list(range(x.dim())), bool(a.get("keepdims", 1)))
    return call


def pad(a, x, pads, value=None, axes=None):
    axes = range(x.dim()) if axes is None else [axis % x.dim() for axis in axes.tolist()]
    before, behind, pads = [0] * x.dim(), [0] * x.dim(), pads.tolist()
    for axis, b, e in zip(axes, pads, pads[len(axes):]):
        before[axis], behind[axis] = b, e
    if a.get("mode", "constant") == "constant":
        return padded(x, before, behind, 0.0 if value is None else float(value))
    for axis, (b, e) in enumerate(zip(before, behind)):
        seen = np.arange(x.shape[axis])[max(-b, 0):x.shape[axis] + min(e, 0)]
        x = x.index_select(axis, torch.from_numpy(np.pad(seen, (max(b, 0), max(e, 0)), a["mode"])))
    return x


def slice_(a, x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes.tolist()
    steps = [1] * len(starts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps):
        seen = range(*slice(start, end, step).indices(x.shape[axis]))
        if step == 1:
            x = x.narrow(axis, seen.start, len(seen))
        else:
            x = x.index_select(axis, torch.tensor(seen, dtype=torch.int64, device=x.device))
    return x


def split(a, x, sizes=None):
    axis = a.get("axis", 0)
    return torch.split(x, -(-x.shape[axis] // a["outputs"]) if sizes is None else sizes.tolist(), axis)


def gather(a, x, indices):
    axis = a.get("axis", 0) % x.dim()
    places = torch.where(indices < 0, indices + x.shape[axis], indices).flatten()
    return x.index_select(axis, places.to(x.device)).reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1:])


def reshape(a, x, shape):
    return x.reshape([x.shape[i] if n == 0 and not a.get("allowzero") else n for i, n in enumerate(shape.tolist())])


def flatten(a, x):
    axis = a.get("axis", 1) + (x.dim() if a.get("axis", 1) < 0 else 0)
    return x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))


def squeeze(a, x, axes=None):
    axes = a.get("axes", [i for i, n in enumerate(x.shape) if n == 1]) if axes is None else axes.tolist()
    return x.squeeze(axes) if axes else x


def unsqueeze(a, x, axes=None):
    axes = a["axes"] if axes is None else axes.tolist()
    return functools.reduce(torch.unsqueeze, sorted(axis % (x.dim() + len(axes)) for axis in axes), x)


def depth_to_space(a, x):
    n, c, h, w = x.shape
    s, depth_first = a["blocksize"], a.get("mode", "DCR") == "DCR"
    x = x.reshape([n, s, s, c // s**2, h, w] if depth_first else [n, c // s**2, s, s, h, w])
    return x.permute([0, 3, 4, 1, 5, 2] if depth_first else [0, 1, 4, 2, 5, 3]).reshape(n, c // s**2, h * s, w * s)


def resize(a, x, roi=None, scales=None, sizes=None):
    refuse_others(a, mode=["nearest", "linear"], antialias=[0], keep_aspect_ratio_policy=["stretch"])
    axes = a.get("axes", range(x.dim()))
    if sizes is None:
        targets = [(int(np.floor(x.shape[axis] * scale)), scale) for axis, scale in zip(axes, scales.tolist())]
    else:
        targets = [(size, size / x.shape[axis]) for axis, size in zip(axes, sizes.tolist())]
    for axis, (size, scale) in zip(axes, targets):
        if scale != 1:
            x = resize_axis(a, x, axis % x.dim(), size, scale)
    return x


def resize_axis(a, x, axis, size, scale):
    n, out = x.shape[axis], torch.arange(size, dtype=torch.float32)
    middle = (out + 0.5) / scale - 0.5
    places = {"half_pixel": middle, "pytorch_half_pixel": middle if size > 1 else 0 * out, "asymmetric": out / scale,
              "align_corners": out * ((n - 1) / max(size - 1, 1)),
              "half_pixel_symmetric": n / 2 * (1 - size / (scale * n)) + middle}
    refuse_others(a, coordinate_transformation_mode=list(places))
    at = places[a.get("coordinate_transformation_mode", "half_pixel")]
    if a.get("mode", "nearest") == "nearest":
        near = {"round_prefer_floor": (at - 0.5).ceil(), "round_prefer_ceil": (at + 0.5).floor(),
                "floor": at.floor(), "ceil": at.ceil()}[a.get("nearest_mode", "round_prefer_floor")]
        return x.index_select(axis, near.clamp(0, n - 1).long())
    at = at.clamp(0, n - 1)
    low = at.long()
    part = (at - low).reshape(-1, *[1] * (x.dim() - 1 - axis))
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=n - 1)), part)


def cast(a, x):
    return x.to(torch.from_numpy(np.empty(0, helper.tensor_dtype_to_np_dtype(a["to"]))).dtype)


# Operator -> function of its inputs.
PLAIN = {
    "MatMul": torch.matmul, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "HardSwish": F.hardswish, "Tanh": torch.tanh,
    "Erf": torch.erf, "Softplus": F.softplus, "PRelu": lambda x, slope: torch.where(x < 0, slope * x, x),
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": divide, "Pow": torch.pow, "Neg": torch.neg,
    "Abs": torch.abs, "Sign": torch.sign, "Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log,
    "Reciprocal": torch.reciprocal, "Floor": torch.floor, "Ceil": torch.ceil, "Round": StraightThrough.apply,
    "Min": lambda *x: functools.reduce(torch.minimum, x), "Max": lambda *x: functools.reduce(torch.maximum, x),
    "Sum": lambda *x: functools.reduce(torch.add, x), "Equal": torch.eq, "Greater": torch.gt, "Less": torch.lt,
    "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le, "And": torch.logical_and, "Or": torch.logical_or,
    "Not": torch.logical_not, "Where": torch.where, "Identity": lambda x: x, "Dropout": lambda x, *_: x,
    "Expand": lambda x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Tile": lambda x, repeats: x.tile(repeats.tolist()),
}

# Operator -> function of its attributes and inputs.
WITH_ATTRIBUTES = {
    "Conv": conv, "ConvTranspose": conv_transpose, "Gemm": gemm, "MaxPool": max_pool, "AveragePool": average_pool,
    "GlobalAveragePool": global_pool(torch.mean), "GlobalMaxPool": global_pool(torch.amax), "Clip": clip,
    "BatchNormalization": batch_normalization, "LayerNormalization": layer_normalization,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)), "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", "none")),
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)), "LogSoftmax": lambda a, x: x.log_softmax(a.get("axis", -1)),
    "ReduceSum": reduction(torch.sum), "ReduceMean": reduction(torch.mean), "ReduceMax": reduction(torch.amax),
    "ReduceMin": reduction(torch.amin), "Pad": pad, "Slice": slice_, "Split": split, "Gather": gather,
    "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Concat": lambda a, *x: torch.cat(x, a["axis"]),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(reversed(range(x.dim()))))), "Resize": resize,
    "DepthToSpace": depth_to_space, "Cast": cast, "Constant": lambda a: a["value"],
    "ConstantOfShape": lambda a, shape: a.get("value", torch.zeros(1)).reshape([]).expand(shape.tolist()),
    "Shape": lambda a, x: torch.tensor(x.shape[a.get("start", 0):a.get("end")], dtype=torch.int64),
}

# Operator -> the first of its inputs that are sizes, axes and the like.
SIZES = {
    **dict.fromkeys(["Reshape", "Expand", "Tile", "Slice", "Split", "Pad", "Squeeze", "Unsqueeze", "Resize"], 1),
    **dict.fromkeys(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"], 1), "ConstantOfShape": 0,
}


def tensor(proto):
    return torch.from_numpy(numpy_helper.to_array(proto).copy())


def attributes(node):
    a = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    for name, value in a.items():
        if isinstance(value, bytes):
            a[name] = value.decode()
        elif isinstance(value, onnx.TensorProto):
            a[name] = tensor(value)
    return {**a, "outputs": len(node.output)}


class Network:
    """A graph as calls of PyTorch. Its constants lie on `device`, but for sizes and axes, which are read on the host."""

    def __init__(self, path, device="cpu"):
        graph = onnx.load(path).graph
        self.constants = {proto.name: tensor(proto) for proto in graph.initializer}
        sizes = {name for node in graph.node for name in node.input[SIZES.get(node.op_type, len(node.input)):]}
        for name in self.constants.keys() - sizes:
            self.constants[name] = self.constants[name].to(device)
        self.inputs = [port.name for port in graph.input if port.name not in self.constants]
        self.outputs = [port.name for port in graph.output]
        self.calls = [self.call(node) for node in graph.node]

    @staticmethod
    def call(node):
        if node.domain not in ("", "ai.onnx") or node.op_type not in PLAIN.keys() | WITH_ATTRIBUTES.keys():
            raise NotImplementedError(f"node {node.name!r}: no PyTorch function for operator {node.op_type}")
        plain = PLAIN.get(node.op_type)
        return plain or functools.partial(WITH_ATTRIBUTES[node.op_type], attributes(node)), node

    def run(self, feeds):
        """Returns the outputs."""
        values = {**self.constants, "": None, **feeds}
        for function, node in self.calls:
            try:
                found = function(*[values[name] for name in node.input])
            except Exception as error:
                raise RuntimeError(f"node {node.name!r} ({node.op_type}): {error}") from error
            found = found if isinstance(found, tuple) else (found,)
            if any(node.output[len(found):]):
                raise NotImplementedError(f"node {node.name!r} ({node.op_type}): only its first output is known here")
            values.update(zip(node.output, found))
        return [values[name] for name in self.outputs]
