"""RMSNorm and the squared ReLU with their own gradients, against torch's operations."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from rope_lab.encodings import RotaryEmbedding, once, one_pass
from rope_lab.model import RoFormer, RoFormerConfig
from rope_lab.pointwise import RMSNorm, rms_norm, squared_relu

GAINS = {"none": None, "coordinates": (6,), "heads": (4, 1)}


def plain(x, gain):
    normed = F.rms_norm(x, x.shape[-1:], eps=1e-3)
    return normed if gain is None else normed * gain


def numbers(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, requires_grad=True)


@pytest.fixture(params=GAINS)
def given(request):
    shape = GAINS[request.param]
    return (numbers(3, 2, 4, 6),) if shape is None else (numbers(3, 2, 4, 6), numbers(*shape))


def normed(x, gain=None):
    return rms_norm(x, 1e-3, gain)


def test_values_and_gradients_are_those_of_torch(given):
    ours, theirs = normed(*given), plain(given[0], *(given[1:] or (None,)))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    towards = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad(y, given, towards) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_first_and_second_derivatives_of_the_norm(given):
    assert torch.autograd.gradcheck(normed, given)
    assert torch.autograd.gradgradcheck(normed, given)


def test_first_and_second_derivatives_of_the_square():
    x = numbers(3, 5)
    assert torch.autograd.gradcheck(squared_relu, (x,))
    assert torch.autograd.gradgradcheck(squared_relu, (x,))
    torch.testing.assert_close(squared_relu(x), F.relu(x).square(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_default_eps_is_that_of_torch(dtype):
    x = (1e-4 * torch.randn(4, 8)).to(dtype).requires_grad_()
    torch.testing.assert_close(rms_norm(x), F.rms_norm(x, (8,)))


@pytest.mark.parametrize("function", [squared_relu, normed], ids=["square", "norm"])
def test_torch_func_sees_through(function):
    x, dx = torch.randn(3, 4), torch.randn(3, 4)
    kept = F.relu if function is squared_relu else lambda y: plain(y, None)
    expected = (lambda y: kept(y).square()) if function is squared_relu else kept
    for a, b in zip(*(torch.func.jvp(f, (x,), (dx,)) for f in (function, expected)), strict=True):
        torch.testing.assert_close(a, b)
    y = x.clone().requires_grad_()
    each = [torch.func.vmap(torch.func.grad(lambda row, f=f: f(row).sum()))(y) for f in (function, expected)]
    torch.testing.assert_close(*each)


def test_a_module_trains_as_that_of_torch():
    ours, theirs = RMSNorm(6, eps=1e-5), torch.nn.RMSNorm(6, eps=1e-5)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x = numbers(2, 3, 6, dtype=torch.float32)
    towards = torch.randn(2, 3, 6)
    ways = [torch.autograd.grad(m(x), (x, m.weight), towards) for m in (ours, theirs)]
    for a, b in zip(*ways, strict=True):
        torch.testing.assert_close(a, b)


class Counted(RotaryEmbedding):
    """Counts how often it forms its table."""

    formed = 0

    def table(self, positions, length, **rest):
        self.formed += 1
        return super().table(positions, length, **rest)


def model(position, depth=3):
    return RoFormer(RoFormerConfig(11, context=8, dim=16, depth=depth, heads=2), position)


def test_a_pass_forms_the_table_once_and_the_next_pass_again():
    position = Counted(8)
    net, ids, positions = model(position), torch.randint(11, (2, 5)), torch.arange(5)
    first = net(ids, positions=positions)
    assert position.formed == 1
    positions += torch.tensor([0, 1, 5, 7, 30])  # in place: the same tensor, other positions
    second = net(ids, positions=positions)
    assert position.formed == 2
    assert not torch.equal(first, second)
    torch.testing.assert_close(second, net(ids, positions=positions.clone()), rtol=0, atol=0)


def test_outside_a_pass_nothing_is_kept():
    position = Counted(8)
    q, positions = torch.randn(1, 2, 5, 8), torch.arange(5)
    for _ in range(2):
        position(q, q, positions=positions)
    assert position.formed == 2


def test_an_error_ends_the_pass():
    position = Counted(8)
    with pytest.raises(KeyError), one_pass():
        raise KeyError
    test_outside_a_pass_nothing_is_kept()
    assert position.formed == 0


def test_two_tensors_that_share_a_place_in_memory_are_two():
    """A tensor that is gone leaves its id to the next one: what was formed of it keeps it."""
    with one_pass():
        seen = {once(torch.sum, torch.full((3,), float(n))).item() for n in range(50)}
    assert seen == {3.0 * n for n in range(50)}


@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
def test_a_layer_that_is_computed_again_has_the_same_gradient(learned):
    net = model(RotaryEmbedding(8, learned=learned))
    ids = torch.randint(11, (2, 5))

    def gradients():
        net.zero_grad()
        net(ids).square().sum().backward()
        return [p.grad.clone() for p in net.parameters()]

    whole = gradients()
    for block in net.blocks:
        forward = block.forward
        block.forward = lambda x, f=forward, **rest: checkpoint(f, x, use_reentrant=False, **rest)
    for a, b in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(a, b)
