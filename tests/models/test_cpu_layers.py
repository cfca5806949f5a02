from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ocr.models import cpu_layers as backward
from ocr.models.cpu_layers import DepthwiseConv2d, TransposedConv2d, replace_slow_cpu_layers


def both(layer: nn.Module, twin: nn.Module, *inputs: torch.Tensor, bf16: bool = False):
    """Outputs and gradients (of the inputs, then of the weights) of two layers."""
    results = []
    for net in (layer, twin):
        leaves = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = net(*leaves)
        y.float().backward(torch.sin(torch.arange(y.numel()).float()).view(y.shape))
        results.append([y.detach().float(), *(x.grad for x in leaves), *(p.grad for p in net.parameters())])
    return zip(*results)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


CASES = [(k, s, p, n) for k in (3, 5, 7, 9) for s in (1, 2) for p in (0, k // 2, k - 1) for n in (17, 20)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel, stride, padding, size", CASES)
def test_gradients_of_a_depthwise_convolution_are_torchs(kernel, stride, padding, size, bias, monkeypatch):
    torch.manual_seed(1)
    twin = nn.Conv2d(6, 6, (kernel, kernel), stride, padding, groups=6, bias=bias)
    layer = replace_slow_cpu_layers(nn.Sequential(copy.deepcopy(twin)))
    assert type(layer[0]) is DepthwiseConv2d
    monkeypatch.setattr(backward, "_in_bfloat16", lambda x: True)
    monkeypatch.setattr(backward, "BF16", torch.float64)  # the same arithmetic, without bfloat16's rounding
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)  # the float32 path, too
    for ours, torchs in both(layer.double(), twin.double(), image(2, 6, size, size + 3).double()):
        torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 1), ((3, 5), (2, 1))])
def test_in_bfloat16_they_are_as_close_to_float32_as_torchs(kernel, stride):
    torch.manual_seed(1)
    padding = kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)
    twin = nn.Conv2d(8, 8, kernel, stride, padding, groups=8)
    exact = [wanted for wanted, _ in both(twin, copy.deepcopy(twin), image(2, 8, 32, 32))]
    twin.zero_grad()
    layer = replace_slow_cpu_layers(nn.Sequential(copy.deepcopy(twin)))
    for wanted, (ours, torchs) in zip(exact, both(layer, twin, image(2, 8, 32, 32), bf16=True), strict=True):
        error, usual = ((found - wanted).norm() / wanted.norm() for found in (ours, torchs))
        assert ours.dtype == torch.float32 and error < max(1.2 * usual, 2e-3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "settings", [{"stride": 2}, {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}, {"dilation": (1, 2)}]
)
def test_a_transposed_convolution_gives_what_torchs_gives(settings, bias):
    torch.manual_seed(1)
    twin = nn.ConvTranspose2d(6, 4, 2, bias=bias, **settings)
    layer = replace_slow_cpu_layers(nn.Sequential(copy.deepcopy(twin)))
    assert type(layer[0]) is TransposedConv2d
    for ours, torchs in both(layer, twin, image(2, 6, 9, 12), bf16=True):
        assert (ours - torchs).norm() <= 0.01 * torchs.norm()


def test_only_what_is_known_is_changed_and_weights_and_results_stay():
    torch.manual_seed(1)
    layers = [nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 8, 3, groups=4),
              nn.Conv2d(8, 8, 3, groups=8, dilation=2), nn.Conv2d(8, 8, 3, groups=8, padding_mode="reflect", padding=1),
              nn.Conv2d(8, 8, 3, groups=8, padding="same"), nn.Conv2d(8, 8, 1, groups=8, padding=1),
              nn.ConvTranspose2d(8, 4, 2, 2)]  # fmt: skip
    network = nn.Sequential(*layers)
    names, x = list(network.state_dict()), image(1, 4, 24, 24)
    before = network(x)
    replace_slow_cpu_layers(network)
    kinds = [type(layer) for layer in network]
    assert kinds == [DepthwiseConv2d, *[nn.Conv2d] * 6, TransposedConv2d]
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network(x), before, rtol=0, atol=0)  # no autocast
    network.eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert not any("Depthwise" in str(fn) for fn in _history(network(x)))


def _history(y: torch.Tensor) -> list:
    found, open_ends = [], [y.grad_fn]
    while open_ends:
        node = open_ends.pop()
        if node is not None:
            found.append(node)
            open_ends += [following for following, _ in node.next_functions]
    return found
