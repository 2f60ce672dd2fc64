"""Prints the milliseconds of PyTorch's weight gradient of one convolution on one thread, best of several runs.

Arguments: runs, batch, channels, filters, side of x, of the kernel, stride, padding, groups. benches/conv_gradient.rs
calls it.
"""

import sys
import time

import torch

runs, n, c, o, side, k, stride, pad, group = map(int, sys.argv[1:])
torch.set_num_threads(1)
x, w = torch.randn(n, c, side, side), torch.randn(o, c // group, k, k)
dy = torch.randn_like(torch.nn.functional.conv2d(x, w, None, stride, pad, 1, group))
least = float("inf")
for _ in range(runs):
    start = time.perf_counter()
    torch.ops.aten.convolution_backward(
        dy, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], group, [False, True, False]
    )
    least = min(least, time.perf_counter() - start)
print(1e3 * least)
