"""Products with a sparse matrix that never changes, such as the adjacency of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class FixedMatrix(nn.Module):
    """Multiplies by a sparse matrix (M, N) that is no weight; its gradient is the product with the transpose.

    Rows are kept end to end (CSR), as is the transpose, so that neither direction sorts or scatters anything.
    A symmetric matrix is its own transpose and is kept once.

    Shape:
        rows, columns (E,) int64, values (E,) float; forward: (N, D) -> (M, D).
    """

    starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(
        self, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], *, symmetric: bool = False
    ) -> None:
        super().__init__()
        self.symmetric = symmetric
        self._keep("", rows, columns, values, shape[0])
        if not symmetric:
            self._keep("back_", columns, rows, values, shape[1])

    def _keep(self, prefix: str, rows: Tensor, columns: Tensor, values: Tensor, height: int) -> None:
        order = rows.argsort(stable=True)
        starts = torch.cat([rows.new_zeros(1), torch.bincount(rows, minlength=height).cumsum(0)])
        for name, part in (("starts", starts), ("columns", columns[order]), ("values", values[order])):
            self.register_buffer(prefix + name, part, persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """Multiply a dense matrix."""
        prefixes = ("", "" if self.symmetric else "back_")
        parts = [getattr(self, prefix + name) for prefix in prefixes for name in ("starts", "columns", "values")]
        found: Tensor = _Product.apply(dense, *parts)
        return found

    def scaled(self, scale: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return the product with a matrix whose entries are scaled, with gradients for the scale as well.

        Args:
            scale: of the entries in these rows and columns. Shape: (E,), (E,) -> (E,).
        """
        height = len(self.starts) - 1
        rows = torch.repeat_interleave(torch.arange(height, device=self.starts.device), self.starts.diff())
        values = (self.values * scale(rows, self.columns)).unsqueeze(1)
        return lambda dense: dense.new_zeros(height, dense.shape[1]).index_add(
            0, rows, values * dense.index_select(0, self.columns)
        )


class _Product(torch.autograd.Function):
    """CSR times dense, forward with one matrix and backward with the other."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(*parts[3:])
        return multiply(dense, *parts[:3])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return multiply(gradient.contiguous(), *ctx.saved_tensors), *[None] * 6


def multiply(dense: Tensor, starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Return the weighted sum of a dense matrix's rows for each row of a CSR matrix.

    An embedding bag is this product; on one CPU thread it takes a tenth of the time of `torch.sparse_csr_tensor @`,
    and has no beta state to warn of.

    Shape:
        dense (N, D), starts (M + 1,), columns (E,), values (E,) -> (M, D).
    """
    weights = values.to(dense.dtype)
    return functional.embedding_bag(
        columns, dense.detach(), starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def normalised_adjacency(edges: Tensor, size: int) -> FixedMatrix:
    """Return D^-1/2 (A + I) D^-1/2 of edges (2, E) that are given both ways, none of them to itself."""
    own = torch.arange(size)
    rows, columns = torch.cat([edges[0], own]), torch.cat([edges[1], own])
    root = torch.bincount(rows, minlength=size).float().rsqrt()
    return FixedMatrix(rows, columns, root[rows] * root[columns], (size, size), symmetric=True)
