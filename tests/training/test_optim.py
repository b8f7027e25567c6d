"""Muon, AdamW and the learning rate as a function of progress."""

import pytest
import torch
from runs import corpus, tiny

from rope_lab import RoFormer
from rope_lab.training import (
    Muon,
    make_optimizers,
    orthogonalise,
    schedule,
    set_learning_rates,
    train,
)


class TestOptimizers:
    @pytest.mark.parametrize("shape", [(8, 8), (3, 12, 5), (4, 5, 12)])
    def test_orthogonalise_brings_singular_values_near_one_and_keeps_the_vectors(self, shape):
        torch.manual_seed(0)
        matrices = torch.randn(shape, dtype=torch.float64)
        u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
        result = orthogonalise(matrices)
        # in the same singular basis the result is diagonal: each value went through the polynomial alone
        inner = u.mT @ result @ vh.mT
        values = inner.diagonal(dim1=-2, dim2=-1)
        assert (inner - torch.diag_embed(values)).abs().max() < 1e-9
        large = s / s.norm(dim=-1, keepdim=True) > 0.01
        assert large.sum() > 0.8 * large.numel()
        assert values[large].min() > 0.6
        assert values.max() < 1.3

    def test_a_zero_gradient_moves_nothing(self):
        weight = torch.nn.Parameter(torch.ones(3, 4))
        weight.grad = torch.zeros(3, 4)
        Muon([weight]).step()
        assert torch.equal(weight, torch.ones(3, 4))

    def test_muon_does_to_matrices_together_what_it_does_to_each_alone(self):
        torch.manual_seed(0)
        together = [torch.nn.Parameter(torch.randn(shape)) for shape in ((6, 6), (6, 6), (12, 6), (6, 12))]
        alone = [torch.nn.Parameter(p.detach().clone()) for p in together]
        optimizers = [Muon(together, weight_decay=0.1), *(Muon([p], weight_decay=0.1) for p in alone)]
        for _ in range(3):
            for p, q in zip(together, alone, strict=True):
                p.grad = torch.randn_like(p)
                q.grad = p.grad.clone()
            for optimizer in optimizers:
                optimizer.step()
        for p, q in zip(together, alone, strict=True):
            torch.testing.assert_close(p, q)

    def test_muon_remembers_five_hundredths_of_each_new_gradient(self):
        weight = torch.nn.Parameter(torch.ones(3, 4))
        optimizer, expected = Muon([weight]), torch.zeros(3, 4)
        for seed in range(3):
            weight.grad = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
            optimizer.step()
            expected = 0.95 * expected + 0.05 * weight.grad
            torch.testing.assert_close(optimizer.state[weight]["momentum"], expected)

    @pytest.mark.parametrize(("shape", "size"), [((12, 3), 2.0), ((3, 12), 1.0), ((6, 6), 1.0)])
    def test_an_update_is_as_large_as_its_rows_ask(self, shape, size):
        """lr·√max(1, rows/columns), so that an output changes as much whatever the shape."""
        weight = torch.nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        Muon([weight], 0.5).step()
        values = torch.linalg.svdvals(weight.detach()) / (0.5 * size)
        assert 0.6 < values.min() < values.max() < 1.3

    def test_weight_decay_shrinks(self):
        weight = torch.nn.Parameter(torch.ones(3, 3))
        weight.grad = torch.zeros(3, 3)
        Muon([weight], 0.5, weight_decay=0.2).step()
        torch.testing.assert_close(weight.detach(), torch.full((3, 3), 0.9))

    def test_every_parameter_has_one_optimizer_and_only_inner_matrices_have_muon(self):
        model = RoFormer(tiny(position="learned", bias=True).architecture(9))
        muon, adamw = make_optimizers(model, tiny())
        groups = [[id(p) for g in o.param_groups for p in g["params"]] for o in (muon, adamw)]
        assert sorted(groups[0] + groups[1]) == sorted(id(p) for p in model.parameters())
        named = {id(p): name for name, p in model.named_parameters()}
        assert {named[i] for i in groups[0]} == {
            f"blocks.0.{name}.weight"
            for name in ("attention.query", "attention.key", "attention.value", "attention.out", "up", "down")
        }

    def test_the_learning_rate_rises_stays_and_falls(self):
        config = tiny(steps=100, warmup=0.1, cooldown=0.5)
        shares = [schedule(step / 100, config) for step in range(101)]
        assert shares[0] == shares[100] == 0
        assert shares[5] == pytest.approx(0.5)
        assert shares[10:51] == [1.0] * 41
        assert shares[75] == pytest.approx(0.5)
        assert schedule(0.3, config.change(warmup=0.0, cooldown=0.0)) == 1
        optimizers = make_optimizers(RoFormer(config.architecture(9)), config)
        for step in (40, 5):  # in any order: it is a function of the step
            set_learning_rates(optimizers, config, step)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        assert rates == pytest.approx([0.55 * config.matrix_lr, 0.55 * config.lr])

    def test_adamw_alone_takes_every_parameter_and_spares_vectors_the_decay(self):
        config = tiny(optimizer="adamw", weight_decay=0.1, beta2=0.99, bias=True)
        model = RoFormer(config.architecture(9))
        (adamw,) = make_optimizers(model, config)
        decay = {id(p): group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
        assert decay == {id(p): 0.1 if p.ndim > 1 else 0.0 for p in model.parameters()}
        assert all(group["betas"] == (0.9, 0.99) for group in adamw.param_groups)

    def test_the_cosine_falls_to_the_floor_and_so_does_the_line(self):
        cosine = tiny(schedule="cosine", warmup=0.2, floor=0.1)
        assert schedule(0.1, cosine) == pytest.approx(0.5)
        assert schedule(0.2, cosine) == pytest.approx(1.0)
        assert schedule(0.6, cosine) == pytest.approx(0.55)
        assert schedule(1.0, cosine) == pytest.approx(0.1)
        assert schedule(1.0, tiny(floor=0.1)) == pytest.approx(0.1)

    def test_one_over_the_root_of_the_step_is_that_of_the_transformers_paper(self):
        config, dim, warmup = tiny(schedule="rsqrt", warmup=2.0, steps=1000), 128, 2000
        peak = (dim * warmup) ** -0.5
        for step in (1, 500, 1000):
            paper = dim**-0.5 * min(step**-0.5, step * warmup**-1.5)
            assert peak * schedule(step / 1000, config) == pytest.approx(paper)
        short = config.change(warmup=0.25)
        assert schedule(1.0, short) == pytest.approx(0.5)

    def test_all_gradients_together_are_clipped(self):
        def moved(clip: float | None) -> float:
            config = tiny(clip=clip, dropout=0.0, steps=1, optimizer="adamw", beta2=0.0, lr=1e-3, warmup=0.0)
            run = train(config, corpus(), quiet=True)
            return sum(p.abs().sum().item() for p in run.model.parameters())

        assert moved(1e-12) != moved(None)  # far below AdamW's epsilon nothing but rounding is left of a step
        assert moved(1e9) == moved(None)
