from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ocr.models import cpu_layers as backward
from ocr.models.cpu_layers import BatchNorm2d, Concat, DepthwiseConv2d, Mean, TransposedConv2d, quicken


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
    layer = quicken(nn.Sequential(copy.deepcopy(twin)))
    assert type(layer[0]) is DepthwiseConv2d
    monkeypatch.setattr(backward, "_in_bfloat16", lambda x: True)
    monkeypatch.setattr(backward, "BF16", torch.float64)  # the same arithmetic, without bfloat16's rounding
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)  # the way by float32 likewise
    for ours, torchs in both(layer.double(), twin.double(), image(2, 6, size, size + 3).double()):
        torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 1), ((3, 5), (2, 1))])
def test_in_bfloat16_they_are_as_close_to_float32_as_torchs(kernel, stride):
    torch.manual_seed(1)
    padding = kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)
    twin = nn.Conv2d(8, 8, kernel, stride, padding, groups=8)
    exact = [wanted for wanted, _ in both(twin, copy.deepcopy(twin), image(2, 8, 32, 32))]
    twin.zero_grad()
    layer = quicken(nn.Sequential(copy.deepcopy(twin)))
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
    layer = quicken(nn.Sequential(copy.deepcopy(twin)))
    assert type(layer[0]) is TransposedConv2d
    for ours, torchs in both(layer, twin, image(2, 6, 9, 12), bf16=True):
        assert (ours - torchs).norm() <= 0.01 * torchs.norm()


def norms(channels: int, momentum: float = 0.1) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, of the same weights; not of 1 and 0."""
    twin = nn.BatchNorm2d(channels, momentum=momentum)
    with torch.no_grad():
        twin.weight.copy_(torch.linspace(-0.5, 2, channels))
        twin.bias.copy_(torch.linspace(3, -1, channels))
    layer = quicken(nn.Sequential(copy.deepcopy(twin)))[0]
    assert type(layer) is BatchNorm2d
    return layer, twin


def far_from_zero(*shape: int) -> torch.Tensor:
    """Columns that differ more than their pixels do, means beyond the deviations, and a channel of small ones."""
    x = image(*shape) + 3 * torch.arange(shape[3]) + 50
    return torch.cat([1e-4 * x[:, :1], x[:, 1:]], dim=1).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels, width", [(12, 24), (18, 16), (24, 20), (24, 6), (42, 32), (3, 7), (1, 64)])
def test_a_batch_norm_of_few_channels_is_torchs(channels, width, monkeypatch):
    monkeypatch.setattr(backward, "_in_bfloat16", lambda x: True)
    layer, twin = (norm.double() for norm in norms(channels, momentum=0.3))
    for _ in range(2):
        for ours, torchs in both(layer, twin, far_from_zero(3, channels, 5, width).double()):
            torch.testing.assert_close(ours, torchs)
    assert layer.num_batches_tracked == 2
    for (name, ours), torchs in zip(layer.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, torchs, msg=name)
    for ours, torchs in both(layer.eval(), twin.eval(), image(3, channels, 5, width).double()):
        torch.testing.assert_close(ours, torchs)


def test_what_it_gives_may_be_changed_in_place(monkeypatch):
    monkeypatch.setattr(backward, "_in_bfloat16", lambda x: True)
    layer, twin = (nn.Sequential(nn.Conv2d(3, 12, 1), norm, nn.ReLU(inplace=True)) for norm in norms(12))
    twin[0].load_state_dict(layer[0].state_dict())
    for ours, torchs in both(layer.double(), twin.double(), image(2, 3, 5, 16).double()):
        assert ours.stride() == torchs.stride()
        torch.testing.assert_close(ours, torchs)


def test_in_bfloat16_it_is_as_close_to_float32_as_torchs():
    layer, twin = norms(24)
    x = far_from_zero(4, 24, 32, 32).bfloat16().float()
    exact = [wanted for wanted, _ in both(copy.deepcopy(twin), copy.deepcopy(twin), x)]
    found = list(both(layer, twin, x.bfloat16(), bf16=True))
    for wanted, (ours, torchs) in zip(exact, found, strict=True):
        error, usual = ((part.float() - wanted).norm() / wanted.norm() for part in (ours, torchs))
        assert ours.dtype == torchs.dtype and error < max(1.2 * usual, 5e-3)
    torch.testing.assert_close(layer.running_mean, twin.running_mean)
    torch.testing.assert_close(layer.running_var, twin.running_var, rtol=1e-4, atol=0)


def test_torch_norms_where_channels_fill_a_register_or_columns_do_not_group():
    kinds = [type(norm) for norm in quicken(nn.Sequential(
        nn.BatchNorm2d(32), nn.BatchNorm2d(48), nn.BatchNorm2d(24), nn.BatchNorm2d(24, affine=False),
        nn.BatchNorm2d(24, momentum=None), nn.BatchNorm2d(24, track_running_stats=False)))]  # fmt: skip
    assert kinds == [nn.BatchNorm2d, nn.BatchNorm2d, BatchNorm2d, *[nn.BatchNorm2d] * 3]
    layer = norms(24)[0]

    def used(width: int, bf16: bool = True) -> bool:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return any("_BatchNorm" in str(step) for step in _history(layer(image(2, 24, 4, width).requires_grad_())))

    assert used(16) and used(6)
    assert not used(7) and not used(16, bf16=False)
    layer.eval()
    assert not used(16)
    layer.train()
    with torch.autocast("cpu", torch.bfloat16):  # what a compiler sees: it has a norm of its own
        program = torch.export.export(layer, (image(2, 24, 4, 16).bfloat16(),), strict=False)
    assert not any("update_stats" in str(node.target) for node in program.graph.nodes)


class TorchsMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.mean((2, 3), keepdim=True)


class OurMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = Mean()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mean(x)


class TorchsConcat(nn.Module):
    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts, dim=1)


@pytest.mark.parametrize("ours, torchs, parts", [(OurMean(), TorchsMean(), 1), (Concat(), TorchsConcat(), 3)])
def test_means_and_concatenations_are_torchs(ours, torchs, parts):
    for found, wanted in both(ours, torchs, *(image(2, 4 + k, 6, 7) for k in range(parts))):
        torch.testing.assert_close(found, wanted)


def gradients_on_the_way(layer: nn.Module, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """As the layer before would get them; those of leaves have been brought into the leaf's format."""
    seen: list[torch.Tensor] = []
    before = [x.requires_grad_() * 1 for x in inputs]
    for x in before:
        x.register_hook(seen.append)
    layer(*before).square().sum().backward()
    return seen


def test_gradients_of_a_concatenation_are_in_channels_last():
    found = gradients_on_the_way(Concat(), image(2, 4, 6, 7), image(2, 5, 6, 7))
    assert len(found) == 2 and all(g.is_contiguous(memory_format=torch.channels_last) for g in found)


def test_the_gradient_of_a_mean_is_a_view_of_one_value_a_channel():
    [found] = gradients_on_the_way(Mean(), image(2, 4, 6, 7))
    assert found.shape == (2, 4, 6, 7) and found.stride()[2:] == (0, 0)


def test_only_what_is_known_is_changed_and_weights_and_results_stay():
    torch.manual_seed(1)
    layers = [nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 8, 3, groups=4),
              nn.Conv2d(8, 8, 3, groups=8, dilation=2), nn.Conv2d(8, 8, 3, groups=8, padding_mode="reflect", padding=1),
              nn.Conv2d(8, 8, 3, groups=8, padding="same"), nn.Conv2d(8, 8, 1, groups=8, padding=1),
              nn.ConvTranspose2d(8, 4, 2, 2)]  # fmt: skip
    network = nn.Sequential(*layers)
    names, x = list(network.state_dict()), image(1, 4, 24, 24)
    before = network(x)
    quicken(network)
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
