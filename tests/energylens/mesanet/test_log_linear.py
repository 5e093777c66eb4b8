"""Log-linear attention against its definition, token by token in plain numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from energylens.mesanet.log_linear import (
    LogLinearInputs,
    LogLinearState,
    level_of,
    log_linear_step,
    log_linear_weights,
    n_levels,
    state_after,
)


def buckets(t: int) -> list[range]:
    """The past of t as the paper cuts it: t itself, then a range for each set bit of t, from the
    lowest, which is taken away."""
    found, end = [range(t, t + 1)], t
    while end:
        begin = end - (end & -end)
        found.append(range(begin, end))
        end = begin
    return found


def level_by_length(bucket: range, t: int) -> int:
    return 0 if bucket.start == t else len(bucket).bit_length()


def drawn(n: int, levels: int, seed: int = 0) -> LogLinearInputs:
    g = torch.Generator().manual_seed(seed)
    shape = (2, 3, n)
    q, k, v = (torch.randn(*shape, 4, generator=g, dtype=torch.float64) for _ in range(3))
    return LogLinearInputs(
        q, k, v,
        torch.rand(shape, generator=g, dtype=torch.float64),
        -torch.rand(shape, generator=g, dtype=torch.float64),
        torch.rand(*shape, levels, generator=g, dtype=torch.float64),
        torch.arange(n).expand(2, n),
    )  # fmt: skip


def by_definition(x: LogLinearInputs) -> np.ndarray:
    """Sums over buckets, one product after the other."""
    q, k, v, beta, gamma, scales = (
        part.numpy() for part in (x.q, x.k, x.v, x.beta, x.log_gamma, x.scales)
    )
    out = np.zeros_like(v)
    for t in range(q.shape[2]):
        for bucket in buckets(t):
            level = min(level_by_length(bucket, t), scales.shape[-1] - 1)
            for s in bucket:
                kept = np.exp(gamma[:, :, s + 1 : t + 1].sum(-1)) * beta[:, :, s]
                likeness = (q[:, :, t] * k[:, :, s]).sum(-1)
                out[:, :, t] += (scales[:, :, t, level] * kept * likeness)[..., None] * v[:, :, s]
    return out


def test_levels_are_the_buckets_of_the_paper() -> None:
    for t in range(40):
        for bucket in buckets(t):
            for s in bucket:
                found = level_of(torch.tensor(t), torch.tensor(s), 9)
                assert int(found) == level_by_length(bucket, t)
    assert [n_levels(n) for n in (1, 2, 3, 4, 5, 256)] == [2, 2, 3, 3, 4, 9]
    assert int(level_of(torch.tensor(255), torch.tensor(0), n_levels(256))) == 8


@pytest.mark.parametrize("levels", [6, 3])
def test_all_positions_at_once_are_the_sums_of_the_definition(levels: int) -> None:
    x = drawn(21, levels)
    np.testing.assert_allclose(log_linear_weights(x) @ x.v, by_definition(x), rtol=1e-10)


@pytest.mark.parametrize("levels", [6, 3])
@pytest.mark.parametrize("begun", [1, 8, 13])
def test_a_state_goes_on_as_if_all_had_been_read_at_once(levels: int, begun: int) -> None:
    x = drawn(21, levels)
    state, outs = state_after(cut(x, slice(0, begun))), []
    for t in range(begun, 21):
        out, state = log_linear_step(cut(x, slice(t, t + 1)), state)
        outs.append(out)
    found = torch.cat(outs, dim=2)
    np.testing.assert_allclose(found, by_definition(x)[:, :, begun:], rtol=1e-9)
    whole = state_after(x)
    torch.testing.assert_close(state.levels, whole.levels)
    assert isinstance(state, LogLinearState) and torch.equal(state.place, whole.place)


def cut(x: LogLinearInputs, part: slice) -> LogLinearInputs:
    return replace(
        x,
        q=x.q[:, :, part], k=x.k[:, :, part], v=x.v[:, :, part], beta=x.beta[:, :, part],
        log_gamma=x.log_gamma[:, :, part], scales=x.scales[:, :, part], place=x.place[:, part],
    )  # fmt: skip
