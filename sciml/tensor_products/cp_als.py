"""Canonical polyadic (CP) factors of a three-way tensor: alternating least squares, then Levenberg-Marquardt steps."""

import math

import torch
from torch import Tensor

Factors = tuple[Tensor, Tensor, Tensor]

_LARGEST_POLISHED = 5000  # entries of the tensor; a step factorises a matrix of this many rows
_CONVERGED = 1e-14


def als(
    tensor: Tensor,
    rank: int,
    *,
    seed: int,
    restarts: int = 1,
    sweeps: int = 300,
    polish: int = 100,
    ridge: float = 0.1,
    decay: float = 0.7,
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Best T_ijk ≈ Σ_r A_ir B_jr C_kr that a few random starts lead to.

    Each start makes `sweeps` sweeps of alternating least squares under a proximal ridge that decays to zero,

        A ← argmin_A ‖T - [A, B, C]‖² + ρ ‖A - A_old‖²    (and B, C in turn),

    and then at most `polish` Levenberg-Marquardt steps in all factors at once, under a Tikhonov ridge λ (‖A‖² + ‖B‖² +
    ‖C‖²) that is multiplied by `decay` every step and ends at zero. The latter keeps the terms from growing against one
    another, and converges quadratically where sweeps stall. Larger tensors than 5000 entries are not polished.

    Args:
        tensor: T, (d1, d2, d3); float64 is computed with.
        rank: number of terms R.
        seed: of the random starts; equal seeds give equal factors on one machine.
        restarts: number of starts; ends early at relative error 1e-14.
        sweeps: of alternating least squares in each start.
        polish: largest number of Levenberg-Marquardt steps in each start.
        ridge: λ of the first step is this / R, for T scaled to unit norm.
        decay: factor of λ from step to step.

    Returns:
        A (d1, R), B (d2, R), C (d3, R) in float64, column r of the three of equal norm, and the relative error
        ‖T - [A, B, C]‖ / ‖T‖ in the Frobenius norm.

    Raises:
        ValueError: if the tensor is not three-way, is zero or not finite, or the rank or number of starts is below 1.

    Source: sweeps as in T. Kolda, B. Bader, SIAM Review 51, 455 (2009); proximal ridge as in C. Navasca et al., EUSIPCO
        (2008); damped steps as in P. Tichavský et al., ICASSP (2013).
    """
    if tensor.ndim != 3 or not bool(torch.isfinite(tensor).all()) or not bool(tensor.any()):
        raise ValueError(f"got a tensor of shape {tuple(tensor.shape)}; expected three axes, finite and not all zero")
    if rank < 1 or restarts < 1:
        raise ValueError(f"got rank={rank}, restarts={restarts}; expected at least 1")
    target = tensor.detach().to("cpu", torch.float64)
    norm = float(target.norm())
    target = target / norm
    generator = torch.Generator().manual_seed(seed)
    best: Factors | None = None
    lowest = math.inf
    for _ in range(restarts):
        factors = _sweep(target, _start(target, rank, generator), sweeps)
        if target.numel() <= _LARGEST_POLISHED:
            factors = _polish(target, factors, polish, ridge / rank, decay)
        error = float((target - compose(*factors)).norm())
        if best is None or error < lowest:
            best, lowest = balance(*factors), error
        if error < _CONVERGED:
            break
    assert best is not None
    a, b, c = best
    scale = norm ** (1 / 3)
    return a * scale, b * scale, c * scale, lowest


def compose(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """[A, B, C] = Σ_r A_ir B_jr C_kr, (d1, d2, d3)."""
    return (a @ _khatri_rao(b, c).T).view(len(a), len(b), len(c))


def balance(a: Tensor, b: Tensor, c: Tensor) -> Factors:
    """The same terms, with column r of the three factors of equal norm; a column that is zero in one is zero in all."""
    norms = [factor.norm(dim=0) for factor in (a, b, c)]
    size = (norms[0] * norms[1] * norms[2]) ** (1 / 3)
    a, b, c = (
        factor * torch.where(size > 0, size / n.clamp_min(1e-300), 0)
        for factor, n in zip((a, b, c), norms, strict=True)
    )
    return a, b, c


def _start(target: Tensor, rank: int, generator: torch.Generator) -> Factors:
    """Normal entries, scaled so that [A, B, C] has about the norm of the target, 1."""
    scale = (rank * target.numel()) ** (-1 / 6)
    a, b, c = (torch.randn(n, rank, generator=generator, dtype=torch.float64) * scale for n in target.shape)
    return a, b, c


def _khatri_rao(a: Tensor, b: Tensor) -> Tensor:
    """A_ir B_jr, (d1 d2, R)."""
    return (a[:, None] * b).flatten(0, 1)


def _unfoldings(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """T as matrices (d1, d2 d3), (d2, d1 d3), (d3, d1 d2)."""
    return target.flatten(1), target.transpose(0, 1).flatten(1), target.permute(2, 0, 1).flatten(1)


def _sweep(target: Tensor, factors: Factors, sweeps: int) -> Factors:
    """Sweeps of proximal alternating least squares, with ρ from 0.1 down to 1e-8 of the mean diagonal."""
    unfolded, current = _unfoldings(target), list(factors)
    for sweep in range(sweeps):
        strength = 10 ** (-1 - 7 * sweep / max(sweeps - 1, 1))
        for mode in range(3):
            first, second = (current[other] for other in range(3) if other != mode)
            gram = (first.T @ first) * (second.T @ second)
            rho = strength * float(gram.diagonal().mean())
            right = unfolded[mode] @ _khatri_rao(first, second) + rho * current[mode]
            gram.diagonal().add_(rho)
            current[mode] = torch.linalg.solve(gram, right.T).T
        current = list(balance(*current))
    return current[0], current[1], current[2]


def _gram_of_jacobian(factors: Factors, shape: torch.Size) -> Tensor:
    """J Jᵀ of [A, B, C] by all entries of the factors, (d1 d2 d3, d1 d2 d3)."""
    a, b, c = factors
    d1, d2, d3 = shape
    gram = torch.zeros(d1, d2, d3, d1, d2, d3, dtype=torch.float64)
    for mode, (first, second) in enumerate(((b, c), (a, c), (a, b))):
        product = _khatri_rao(first, second)
        n1, n2 = len(first), len(second)
        gram.diagonal(dim1=mode, dim2=mode + 3).add_((product @ product.T).view(n1, n2, n1, n2, 1))
    return gram.view(d1 * d2 * d3, -1)


def _transposed_jacobian(factors: Factors, residual: Tensor) -> Factors:
    """Jᵀ r: each unfolding of r times the Khatri-Rao product of the other two factors."""
    a, b, c = factors
    r1, r2, r3 = _unfoldings(residual)
    return r1 @ _khatri_rao(b, c), r2 @ _khatri_rao(a, c), r3 @ _khatri_rao(a, b)


def _polish(target: Tensor, factors: Factors, steps: int, ridge: float, decay: float) -> Factors:
    """Levenberg-Marquardt steps of f = ‖T - [p]‖² + λ ‖p‖², p the entries of all factors.

    With s = λ + μ and the damping μ, a step is p ← p - (JᵀJ + s)⁻¹ (λ p - Jᵀ r), which by Woodbury's identity and
    J p = 3 [p] needs the matrix of the smaller side only:

        Δ = -(λ / s) p + Jᵀ (J Jᵀ + s)⁻¹ (r + 3 (λ / s) [p])
    """
    lam, damping, growth = ridge, ridge, 2.0
    for _ in range(steps):
        value = compose(*factors)
        residual = target - value
        square = sum(float(f.square().sum()) for f in factors)
        objective = float(residual.square().sum()) + lam * square
        if math.sqrt(float(residual.square().sum())) < _CONVERGED / 4:
            break
        gram = _gram_of_jacobian(factors, target.shape)
        shift = lam + damping
        gram.diagonal().add_(shift)
        cholesky, failed = torch.linalg.cholesky_ex(gram)
        if int(failed):
            damping, growth = max(damping * growth, 1e-15), growth * 2
            continue
        right = (residual + 3 * (lam / shift) * value).flatten()
        solved = torch.cholesky_solve(right[:, None], cholesky).view(target.shape)
        change = [d - (lam / shift) * f for d, f in zip(_transposed_jacobian(factors, solved), factors, strict=True)]
        trial = tuple(f + d for f, d in zip(factors, change, strict=True))
        new_square = sum(float(f.square().sum()) for f in trial)
        new_objective = float((target - compose(*trial)).square().sum()) + lam * new_square
        gradient = [g - lam * f for g, f in zip(_transposed_jacobian(factors, residual), factors, strict=True)]
        expected = sum(float((d * (damping * d + g)).sum()) for d, g in zip(change, gradient, strict=True))
        gain = (objective - new_objective) / max(expected, 1e-300)
        if new_objective < objective:
            factors = balance(*trial)
            damping, growth = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
            lam = lam * decay if lam > 1e-12 else 0.0
        else:
            damping, growth = damping * growth, growth * 2
            if damping > 1e6:
                break
    return factors
