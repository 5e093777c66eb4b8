"""The mesa layer's mathematics (von Oswald et al., 2025, arXiv 2506.05233), one head at a time.

    H_t = gamma_t H_{t-1} + beta_t k_t k_t^T      G_t = gamma_t G_{t-1} + beta_t k_t v_t^T
    o_t = G_t^T (H_t + Lambda)^{-1} q_t

o_t is what the best linear map from the keys so far to their values, in least squares with the
decayed weights and the ridge Lambda, makes of q_t. `mesa_chunked` computes all positions in
parallel chunk by chunk and solves by conjugate gradients; `mesa_step` goes on from a state;
`mesa_exact` solves directly and is what the others are held against.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

_TINY = 1e-20


@dataclass(frozen=True)
class MixerInputs:
    """What a mixer reads at every position; k and q are unit vectors, log_gamma <= 0."""

    q: Float[Tensor, "batch heads pos d_head"]
    k: Float[Tensor, "batch heads pos d_head"]
    v: Float[Tensor, "batch heads pos d_head"]
    beta: Float[Tensor, "batch heads pos"]
    """Weight of a position, in (0, 1); 0 leaves it out."""
    log_gamma: Float[Tensor, "batch heads pos"]
    """Logarithm of what is kept of the past; 0 keeps all of it."""


@dataclass(frozen=True)
class MesaInputs(MixerInputs):
    """What the mesa layer reads."""

    ridge: Float[Tensor, "heads d_head"]
    """Diagonal of Lambda, at least its lower bound."""


@dataclass(frozen=True)
class MesaState:
    """All that later positions need of earlier ones."""

    keys: Float[Tensor, "batch heads d_head d_head"]
    """H."""
    values: Float[Tensor, "batch heads d_head d_head"]
    """G."""


@dataclass(frozen=True)
class MesaOutput:
    """Outputs, the state after the last position, and how hard each solve was."""

    out: Float[Tensor, "batch heads pos d_head"]
    state: MesaState
    steps: Int[Tensor, "batch heads pos"]
    """Conjugate-gradient steps until the residual was below the tolerance."""


def mesa_exact(inputs: MesaInputs) -> Float[Tensor, "batch heads pos d_head"]:
    """Position by position with direct solves, in the precision of the inputs."""
    batch, heads, n, d = inputs.q.shape
    keys = inputs.q.new_zeros(batch, heads, d, d)
    values = torch.zeros_like(keys)
    ridge = torch.diag_embed(inputs.ridge)
    outs = []
    for t in range(n):
        gamma = inputs.log_gamma[:, :, t].exp()[..., None, None]
        k, v = inputs.k[:, :, t], inputs.v[:, :, t]
        weighted = inputs.beta[:, :, t, None] * k
        keys = gamma * keys + weighted[..., :, None] * k[..., None, :]
        values = gamma * values + weighted[..., :, None] * v[..., None, :]
        solved = torch.linalg.solve(keys + ridge, inputs.q[:, :, t, :, None])
        outs.append((values.transpose(-1, -2) @ solved)[..., 0])
    return torch.stack(outs, dim=2)


def mesa_chunked(
    inputs: MesaInputs,
    chunk: int,
    max_steps: int,
    tolerance: float = 0.0,
    state: MesaState | None = None,
) -> MesaOutput:
    """All positions in parallel within chunks of `chunk`; only states are passed between chunks.

    Gradients are those of the exact solution (implicit differentiation): the solve is repeated for
    the incoming gradient, and no step of it is recorded. A `tolerance` above 0 stops each solve
    where its residual is that small against q, and `steps` says where.
    """
    batch, heads, n, d = inputs.q.shape
    parts, after = _chunks(inputs, chunk, state)
    out, steps = _solved(parts, inputs.ridge, max_steps, tolerance)
    return MesaOutput(
        out.reshape(batch, heads, parts.size, d)[:, :, :n],
        after,
        steps.reshape(batch, heads, parts.size)[:, :, :n],
    )


@dataclass(frozen=True)
class _Chunks:
    """What the solves of all chunks read; `size` is that of all positions together."""

    q: Float[Tensor, "batch heads n some d_head"]
    k: Float[Tensor, "batch heads n chunk d_head"]
    v: Float[Tensor, "batch heads n chunk d_head"]
    inside: Float[Tensor, "batch heads n some chunk"]
    """What the positions of the chunk weigh."""
    from_before: Float[Tensor, "batch heads n some 1"]
    """What the state before the chunk weighs."""
    keys: Float[Tensor, "batch heads n d_head d_head"]
    """H before each chunk."""
    values: Float[Tensor, "batch heads n d_head d_head"]
    """G before each chunk."""
    size: int

    def rows(self, picks: Int[Tensor, "batch n some"]) -> "_Chunks":
        """The same with the queries of some positions only."""
        q, inside, from_before = (
            x.gather(3, picks[:, None, :, :, None].expand(-1, x.shape[1], -1, -1, x.shape[4]))
            for x in (self.q, self.inside, self.from_before)
        )
        return replace(self, q=q, inside=inside, from_before=from_before)


def _chunks(inputs: MesaInputs, chunk: int, state: MesaState | None) -> tuple[_Chunks, MesaState]:
    """The positions in chunks, and the state after the last."""
    batch, heads, n, d = inputs.q.shape
    padded, size = _pad(inputs, chunk), -(-n // chunk) * chunk
    shape = (batch, heads, size // chunk, chunk)
    q, k, v = (x.reshape(*shape, d) for x in (padded.q, padded.k, padded.v))
    beta, decay = padded.beta.reshape(shape), padded.log_gamma.reshape(shape).cumsum(-1)
    before_keys, before_values, after = _states(k, v, beta, decay, state)
    inside = _within_chunk(beta, decay)
    from_before = decay.exp()[..., None]
    return _Chunks(q, k, v, inside, from_before, before_keys, before_values, size), after


def _solved(
    parts: _Chunks, ridge: Tensor, max_steps: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Outputs at the queries of all chunks, and the steps."""
    diagonal = ridge[None, :, None, None]

    def matvec(x: Tensor) -> Tensor:
        near = ((x @ parts.k.mT) * parts.inside) @ parts.k
        return (x * parts.from_before) @ parts.keys + near + diagonal * x

    solved, steps = _solve(matvec, parts.q, max_steps, tolerance)
    near = ((solved @ parts.k.mT) * parts.inside) @ parts.v
    return (solved * parts.from_before) @ parts.values + near, steps


def mesa_weights(
    inputs: MesaInputs, max_steps: int, tolerance: float = 0.0
) -> Float[Tensor, "batch heads pos pos"]:
    """What the value at each earlier position counts at each position: o_t = sum_s w_ts v_s, with
    w_ts = k_s^T (H_t + Lambda)^{-1} q_t, decayed and weighted by beta. For looking, at the cost of
    a square of positions."""
    beta, decay = inputs.beta[:, :, None], inputs.log_gamma.cumsum(-1)[:, :, None]
    inside = _within_chunk(beta, decay)[:, :, 0]
    ridge = inputs.ridge[None, :, None]

    def matvec(x: Tensor) -> Tensor:
        return ((x @ inputs.k.mT) * inside) @ inputs.k + ridge * x

    with torch.no_grad():
        solved, _ = conjugate_gradients(matvec, inputs.q, max_steps, tolerance)
        return (solved @ inputs.k.mT) * inside


def mesa_step(
    inputs: MesaInputs, state: MesaState, max_steps: int, tolerance: float = 0.0
) -> MesaOutput:
    """One position after a state, for decoding; `inputs` have one position."""
    after = _advanced(inputs, state)
    out, steps = _answers(inputs.q, after, inputs.ridge, max_steps, tolerance)
    return MesaOutput(out, after, steps)


def mesa_asked(
    inputs: MesaInputs,
    asks: Bool[Tensor, "batch pos"],
    chunk: int,
    max_steps: int,
    tolerance: float,
    state: MesaState | None,
) -> tuple[Float[Tensor, "n heads d_head"], MesaState]:
    """Outputs at the n positions that ask, row by row, and the state after all positions.

    All positions update the state; only those that ask are solved for, and in each chunk as many
    beside them as the chunk with most of them has.
    """
    batch, _, n, _ = inputs.q.shape
    if n == 1 and state is not None:
        after, rows = _advanced(inputs, state), asks[:, 0]
        some = MesaState(after.keys[rows], after.values[rows])
        out, _ = _answers(inputs.q[rows], some, inputs.ridge, max_steps, tolerance)
        return out[:, :, 0], after
    parts, after = _chunks(inputs, min(chunk, n), state)
    asked = functional.pad(asks, (0, parts.size - n)).view(batch, -1, parts.q.shape[3])
    picks = asked_first(asked)
    solved, _ = _solved(parts.rows(picks), inputs.ridge, max_steps, tolerance)
    return solved.permute(0, 2, 3, 1, 4)[asked.gather(-1, picks)], after


def asked_first(asks: Bool[Tensor, "*batch pos"]) -> Int[Tensor, "*batch most"]:
    """Positions that ask, in order, filled up with others to as many as the row with most has."""
    most = int(asks.sum(-1).max())
    return (~asks).long().argsort(dim=-1, stable=True)[..., :most]


def _advanced(inputs: MesaInputs, state: MesaState) -> MesaState:
    """The state after one position more."""
    gamma = inputs.log_gamma.exp()[..., None]
    weighted = inputs.beta[..., None] * inputs.k
    return MesaState(
        gamma * state.keys + weighted.mT @ inputs.k, gamma * state.values + weighted.mT @ inputs.v
    )


def _answers(
    q: Tensor, state: MesaState, ridge: Tensor, max_steps: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """What a state answers to queries, and the steps."""
    diagonal = ridge[None, :, None]

    def matvec(x: Tensor) -> Tensor:
        return x @ state.keys + diagonal * x

    solved, steps = _solve(matvec, q, max_steps, tolerance)
    return solved @ state.values, steps


def conjugate_gradients(
    matvec: Callable[[Tensor], Tensor],
    b: Float[Tensor, "*batch d"],
    max_steps: int,
    tolerance: float = 0.0,
) -> tuple[Float[Tensor, "*batch d"], Int[Tensor, "*batch"]]:
    """Solve A x = b for symmetric positive definite A, all systems at once, starting from zero.

    Also the steps after which each residual was at most `tolerance` times the norm of b. No
    constant is added to a denominator: one of 1e-5 stalls the solve at 5e-4.
    """
    x = torch.zeros_like(b)
    residual, direction = b, b
    square = (residual * residual).sum(-1, keepdim=True)
    aim = tolerance**2 * square
    steps = torch.zeros(b.shape[:-1], dtype=torch.int64, device=b.device)
    for _ in range(max_steps):
        open_ = square > aim
        if tolerance and not open_.any():
            break
        steps += open_[..., 0]
        along = matvec(direction)
        step = square / (direction * along).sum(-1, keepdim=True).clamp_min(_TINY)
        if tolerance:
            step = step * open_
        x = x + step * direction
        residual = residual - step * along
        new = (residual * residual).sum(-1, keepdim=True)
        direction = residual + new / square.clamp_min(_TINY) * direction
        square = torch.where(open_, new, square) if tolerance else new
    return x, steps


def _solve(
    matvec: Callable[[Tensor], Tensor], q: Tensor, max_steps: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """A^{-1} q with the gradient of the exact solution.

    The residual q - A x is about zero in value and carries the graph to everything A is made of;
    its gradient, turned by A^{-1} on the way back, is that of the solution.
    """
    with torch.no_grad():
        found, steps = conjugate_gradients(matvec, q, max_steps, tolerance)
    if not torch.is_grad_enabled():
        return found, steps
    residual = q - matvec(found)
    if residual.requires_grad:
        residual.register_hook(
            lambda gradient: conjugate_gradients(_no_grad(matvec), gradient, max_steps)[0]
        )
    return found + residual, steps


def _no_grad(matvec: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            return matvec(x)

    return run


def _states(
    k: Float[Tensor, "batch heads n chunk d"],
    v: Float[Tensor, "batch heads n chunk d"],
    beta: Float[Tensor, "batch heads n chunk"],
    decay: Float[Tensor, "batch heads n chunk"],
    state: MesaState | None,
) -> tuple[Tensor, Tensor, MesaState]:
    """H and G before each chunk, and after the last."""
    left = ((decay[..., -1:] - decay).exp() * beta)[..., None] * k
    new_keys, new_values = left.mT @ k, left.mT @ v
    kept = decay[..., -1].exp()[..., None, None]
    keys = torch.zeros_like(new_keys[:, :, 0]) if state is None else state.keys
    values = torch.zeros_like(keys) if state is None else state.values
    before_keys, before_values = [], []
    for c in range(k.shape[2]):
        before_keys.append(keys)
        before_values.append(values)
        keys = kept[:, :, c] * keys + new_keys[:, :, c]
        values = kept[:, :, c] * values + new_values[:, :, c]
    return (
        torch.stack(before_keys, dim=2),
        torch.stack(before_values, dim=2),
        MesaState(keys, values),
    )


def _within_chunk(
    beta: Float[Tensor, "batch heads n chunk"], decay: Float[Tensor, "batch heads n chunk"]
) -> Float[Tensor, "batch heads n chunk chunk"]:
    """What position s of a chunk weighs at position t: its beta, decayed; 0 for later ones."""
    size = beta.shape[-1]
    causal = torch.ones(size, size, dtype=torch.bool, device=beta.device).tril()
    gap = (decay[..., :, None] - decay[..., None, :]).masked_fill(~causal, -torch.inf)
    return gap.exp() * beta[..., None, :]


def _pad(inputs: MesaInputs, chunk: int) -> MesaInputs:
    """Whole chunks; what is added has beta 0 and no decay, so that the state passes through."""
    missing = -inputs.q.shape[2] % chunk
    if not missing:
        return inputs

    def padded(x: Tensor) -> Tensor:
        rest = (0, 0) * (x.dim() - 3)
        return functional.pad(x, (*rest, 0, missing))

    return MesaInputs(
        padded(inputs.q),
        padded(inputs.k),
        padded(inputs.v),
        padded(inputs.beta),
        padded(inputs.log_gamma),
        inputs.ridge,
    )
