"""The mesa layer in chunks, step by step and solved directly: the same numbers and gradients."""

import pytest
import torch
from torch import Tensor

from energylens.mesanet.solver import (
    MesaInputs,
    MesaState,
    conjugate_gradients,
    mesa_chunked,
    mesa_exact,
    mesa_step,
)


def make(n: int = 50, d: int = 8, dtype: torch.dtype = torch.float64, seed: int = 0) -> MesaInputs:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    unit = torch.nn.functional.normalize
    return MesaInputs(
        q=unit(normal(2, 3, n, d), dim=-1),
        k=unit(normal(2, 3, n, d), dim=-1),
        v=normal(2, 3, n, d),
        beta=normal(2, 3, n).sigmoid(),
        log_gamma=torch.nn.functional.logsigmoid(normal(2, 3, n) + 2),
        ridge=normal(3, d).exp() + 0.25,
    )


@pytest.mark.parametrize("chunk", [1, 7, 16, 50, 64])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
def test_chunks_equal_the_direct_solution(chunk: int, dtype: torch.dtype, tolerance: float) -> None:
    exact = mesa_exact(make())
    found = mesa_chunked(make(dtype=dtype), chunk, 30).out
    assert (found.double() - exact).norm() / exact.norm() < tolerance


def test_error_falls_with_every_step() -> None:
    exact = mesa_exact(make())
    errors = [
        float((mesa_chunked(make(), 16, steps).out - exact).norm() / exact.norm())
        for steps in (2, 4, 6, 8, 12)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5 and errors[0] > 1e-3


@pytest.mark.parametrize("tolerance", [0.0, 1e-10])
def test_decoding_goes_on_from_the_state(tolerance: float) -> None:
    inputs = make()
    exact = mesa_exact(inputs)
    first = mesa_chunked(_part(inputs, 0, 21), 8, 30, tolerance)
    state, outs = first.state, [first.out]
    for t in range(21, 30):
        found = mesa_step(_part(inputs, t, t + 1), state, 30, tolerance)
        state = found.state
        outs.append(found.out)
    outs.append(mesa_chunked(_part(inputs, 30, 50), 8, 30, tolerance, state).out)
    torch.testing.assert_close(torch.cat(outs, dim=2), exact, rtol=1e-7, atol=1e-8)


def _part(inputs: MesaInputs, first: int, end: int) -> MesaInputs:
    part = slice(first, end)
    return MesaInputs(
        q=inputs.q[:, :, part],
        k=inputs.k[:, :, part],
        v=inputs.v[:, :, part],
        beta=inputs.beta[:, :, part],
        log_gamma=inputs.log_gamma[:, :, part],
        ridge=inputs.ridge,
    )


def test_the_state_is_the_sum_it_is_said_to_be() -> None:
    inputs = make(n=5)
    keys = torch.zeros(2, 3, 8, 8, dtype=torch.float64)
    for t in range(5):
        k = inputs.k[:, :, t]
        gamma, beta = (x[:, :, t, None, None] for x in (inputs.log_gamma.exp(), inputs.beta))
        keys = gamma * keys + beta * k[..., :, None] * k[..., None, :]
    torch.testing.assert_close(mesa_chunked(inputs, 2, 20).state.keys, keys)


def test_gradients_are_those_of_a_direct_solve() -> None:
    names = ("q", "k", "v", "beta", "log_gamma", "ridge")

    def gradients(run) -> list[Tensor]:
        inputs = make(n=30)
        leaves = [getattr(inputs, name).clone().requires_grad_(True) for name in names]
        out = run(MesaInputs(*leaves))
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).double()
        return list(torch.autograd.grad((out * weights).sum(), leaves))

    exact = gradients(mesa_exact)
    found = gradients(lambda inputs: mesa_chunked(inputs, 8, 30).out)
    for name, mine, its in zip(names, found, exact, strict=True):
        assert (mine - its).norm() / its.norm() < 1e-8, name
    few = gradients(lambda inputs: mesa_chunked(inputs, 8, 8).out)
    for name, mine, its in zip(names, few, exact, strict=True):
        assert (mine - its).norm() / its.norm() < 2e-2, name


def test_nothing_later_reaches_an_output() -> None:
    inputs, other = make(), make(seed=1)

    def mixed(name: str) -> Tensor:
        mine, its = getattr(inputs, name), getattr(other, name)
        return torch.cat([mine[:, :, :20], its[:, :, 20:]], dim=2)

    changed = MesaInputs(
        q=mixed("q"),
        k=mixed("k"),
        v=mixed("v"),
        beta=mixed("beta"),
        log_gamma=mixed("log_gamma"),
        ridge=inputs.ridge,
    )
    before, after = (mesa_chunked(x, 16, 12).out for x in (inputs, changed))
    assert torch.equal(before[:, :, :20], after[:, :, :20])
    assert not torch.allclose(before[:, :, 20:], after[:, :, 20:])


def test_steps_are_counted_to_the_tolerance() -> None:
    inputs = make()
    loose, tight = (mesa_chunked(inputs, 16, 30, tolerance=t) for t in (1e-1, 1e-6))
    assert (loose.steps <= tight.steps).all() and (loose.steps < tight.steps).any()
    assert tight.steps.max() < 30 and tight.steps.min() >= 1
    exact = mesa_exact(inputs)
    assert (tight.out - exact).norm() / exact.norm() < 1e-5


def test_long_memories_and_correlated_keys_converge() -> None:
    inputs = make(n=400)
    base = torch.nn.functional.normalize(inputs.k[:, :, :1] + 0.1 * inputs.k, dim=-1)
    hard = MesaInputs(
        inputs.q, base, inputs.v, inputs.beta, torch.zeros_like(inputs.log_gamma),
        torch.full_like(inputs.ridge, 0.25),
    )  # fmt: skip
    exact = mesa_exact(hard)
    found = mesa_chunked(hard, 32, 30).out
    assert (found - exact).norm() / exact.norm() < 1e-6


def test_the_solver_solves_what_numpy_solves() -> None:
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(4, 6, 6, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(6, dtype=torch.float64)
    b = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    found, _ = conjugate_gradients(lambda x: (matrix @ x[..., None])[..., 0], b, 40)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, b))
    zero, steps = conjugate_gradients(lambda x: x, torch.zeros(2, 3), 5, 1e-3)
    assert not zero.any() and not steps.any()


def test_an_empty_past_gives_the_ridge_solution() -> None:
    inputs = make(n=1)
    nothing = MesaState(*(torch.zeros(2, 3, 8, 8, dtype=torch.float64) for _ in "kv"))
    found = mesa_step(inputs, nothing, 20).out
    torch.testing.assert_close(found, mesa_exact(inputs))
