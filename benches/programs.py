"""Graphs as calls of PyTorch that torch.compile can trace, and fake-quantizers as PyTorch's own fused operators."""

import functools

import torch

from onnx_in_torch import Network

# Operator -> places of inputs that are lists of whole numbers.
LISTS = {
    "Reshape": [1], "Expand": [1], "Tile": [1], "Slice": [1, 2, 3, 4], "Pad": [1, 3], "Squeeze": [1], "Unsqueeze": [1],
    "ReduceSum": [1], "ReduceMean": [1], "ReduceMax": [1], "ReduceMin": [1], "Split": [1], "ConstantOfShape": [0],
}
# Operator -> places of inputs that are single numbers.
NUMBERS = {"Pad": [2], "Clip": [1, 2]}


class Ints(list):
    """A constant that is known while a graph is traced."""

    def tolist(self):
        return list(self)


def straight_through(x):
    return x + (x.round() - x).detach()


class Program:
    """What `Network` does, without anything that breaks a trace."""

    def __init__(self, path):
        network = Network(path)
        self.constants, self.inputs, self.outputs = network.constants, network.inputs, network.outputs
        self.calls = []
        for function, node in network.calls:
            inputs = list(node.input)
            for kinds, as_read in ((LISTS, lambda x: Ints(x.tolist())), (NUMBERS, torch.Tensor.item)):
                for place in kinds.get(node.op_type, []):
                    if place < len(inputs) and inputs[place] in self.constants:
                        # Another operator may read the same constant as a tensor.
                        name = f"{inputs[place]} of {node.op_type}"
                        self.constants[name] = as_read(self.constants[inputs[place]])
                        inputs[place] = name
            function = straight_through if node.op_type == "Round" else function
            self.calls.append((node.op_type, function, inputs, list(node.output)))

    def run(self, feeds):
        """Returns the outputs."""
        values = {**self.constants, "": None, **feeds}
        for _, function, inputs, outputs in self.calls:
            found = function(*[values[name] for name in inputs])
            for name, value in zip(outputs, found if isinstance(found, tuple) else (found,)):
                values[name] = value
        return [values[name] for name in self.outputs]

    def fuse_fake_quantizers(self):
        """Makes each `Mul(Round(Clip(Div(x, s), lo, hi)), s)`, or with Max and Min for Clip, a call of PyTorch's
        learnable fake-quantizer, and returns how many."""
        makers = {name: call for call in self.calls for name in call[3]}
        found = 0
        for place, call in enumerate(self.calls):
            match = self.fake_quantizer(call, makers)
            if match:
                self.calls[place] = match
                found += 1
        self.drop_unread()
        return found

    def fake_quantizer(self, call, makers):
        kind, _, inputs, outputs = call
        if kind != "Mul" or "Round" not in (made := makers.get(inputs[0], ("",)))[0]:
            return None
        low, high, at = None, None, made[2][0]
        while at in makers and makers[at][0] in ("Clip", "Max", "Min"):
            kind, _, clipped, _ = makers[at]
            bounds = [torch.as_tensor(self.constants[name]).flatten() for name in clipped[1:]]
            low = bounds[0] if kind != "Min" else low
            high = bounds[-1] if kind != "Max" else high
            at = clipped[0]
        if at not in makers or makers[at][0] != "Div" or makers[at][2][1] != inputs[1] or low is None or high is None:
            return None
        if any(len(set(bound.tolist())) > 1 for bound in (low, high)):
            return None
        function = functools.partial(fused, int(low[0]), int(high[0]))
        return "FakeQuantize", function, [makers[at][2][0], inputs[1]], outputs

    def drop_unread(self):
        read, kept = set(self.outputs), []
        for call in reversed(self.calls):
            if read & set(call[3]):
                read |= set(call[2])
                kept.append(call)
        self.calls = kept[::-1]


def fused(low, high, x, scale):
    shape = list(scale.shape)
    flat = scale.reshape(-1)
    zero_point = torch.zeros_like(flat)
    if flat.numel() == 1:
        return torch._fake_quantize_learnable_per_tensor_affine(x, flat, zero_point, low, high, 1.0)
    axis = next(i for i, size in enumerate(shape) if size > 1) + x.dim() - len(shape)
    return torch._fake_quantize_learnable_per_channel_affine(x, flat, zero_point, axis, low, high, 1.0)
