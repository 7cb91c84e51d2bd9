"""Masks, pooling and the one attention implementation by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from toy_tokens import NAN

from fusion import Tokens, UsageError
from fusion.layers import Attention, AttentionPool, Block, masked_mean, masked_softmax
from fusion.tokens import clean, present

# --- masks ---


def test_present_looks_through_every_axis() -> None:
    mask = torch.zeros(3, 2, 2, dtype=torch.bool)
    mask[1, 1, 0] = True
    assert present(mask).tolist() == [False, True, False]


def test_clean_zeroes_what_is_not_real() -> None:
    tokens = clean(Tokens(torch.tensor([[[1.0, NAN], [NAN, 2.0]]]), torch.tensor([[False, True]])))
    assert tokens.values[0, 0].tolist() == [0.0, 0.0]
    assert tokens.values[0, 1, 1] == 2.0


def test_masked_softmax_by_hand() -> None:
    scores = torch.tensor([[0.0, math.log(3.0), 50.0], [1.0, 2.0, 3.0], [NAN, 7.0, NAN]])
    mask = torch.tensor([[True, True, False], [False, False, False], [False, True, False]])
    found = masked_softmax(scores, mask)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


def test_masked_mean_by_hand() -> None:
    values = torch.tensor([[[1.0, 4.0], [3.0, 8.0], [NAN, NAN]], [[9.0, 9.0]] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(values, mask).tolist() == [[2.0, 6.0], [0.0, 0.0]]


def test_empty_rows_have_finite_gradients() -> None:
    scores = torch.randn(2, 3, requires_grad=True)
    (masked_softmax(scores, torch.zeros(2, 3, dtype=torch.bool)).sum() + scores.sum() * 0).backward()
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_pool_weighs_tokens_by_their_score() -> None:
    pool = AttentionPool(2)
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[1.0, 0.0]]))
    values = torch.tensor([[[0.0, 8.0], [math.log(3.0), 4.0], [99.0, 99.0]], [[1.0, 1.0]] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(pool(values, mask), torch.tensor([[0.75 * math.log(3.0), 5.0], [0.0, 0.0]]))


# --- attention ---


def identity(attention: Attention) -> Attention:
    """Queries, keys and values are what comes in."""
    dim = attention.out.in_features
    with torch.no_grad():
        for layer, parts in ((attention.query, 1), (attention.key_value, 2), (attention.out, 1)):
            layer.weight.copy_(torch.eye(dim).repeat(parts, 1))
            layer.bias.zero_()
    return attention


def test_attention_by_hand() -> None:
    attention = identity(Attention(1, heads=1))
    keys = torch.tensor([[[0.0], [math.log(3.0)], [5.0]]])
    mask = torch.tensor([[True, True, False]])
    # scores are query * key / sqrt(1): softmax of 0 and log 3 is 1/4 and 3/4
    found = attention(torch.tensor([[[1.0], [0.0]]]), keys, mask)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([0.75, 0.5]) * math.log(3.0))


def test_heads_look_apart() -> None:
    attention = identity(Attention(2, heads=2))
    keys = torch.tensor([[[0.0, math.log(3.0)], [math.log(3.0), 0.0]]])
    found = attention(torch.tensor([[[1.0, 0.0]]]), keys, torch.ones(1, 2, dtype=torch.bool))
    # the first head asks 1 and weighs 1/4, 3/4; the second asks 0 and weighs them alike
    torch.testing.assert_close(found[0, 0], torch.tensor([0.75, 0.5]) * math.log(3.0))


@pytest.mark.parametrize("per_query", [False, True])
def test_attention_equals_torch(per_query: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(8, heads=2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, keys = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    mask = torch.rand(3, 4, 5) < 0.5
    mask[..., 0] = True
    if per_query:
        wanted, _ = theirs(queries, keys, keys, attn_mask=(~mask).repeat_interleave(2, dim=0), need_weights=False)
    else:
        mask = mask[:, 0]
        wanted, _ = theirs(queries, keys, keys, key_padding_mask=~mask, need_weights=False)
    torch.testing.assert_close(ours(queries, keys, mask), wanted, rtol=1e-5, atol=1e-6)


def test_attention_to_nothing_is_zero() -> None:
    torch.manual_seed(0)
    attention = Attention(4, heads=2)
    queries, keys = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4)
    mask = torch.ones(2, 3, 5, dtype=torch.bool)
    mask[0, 1] = False  # one query of the first patient
    found = attention(queries, keys, mask)
    assert (found[0, 1] == 0).all()
    assert (found[0, 0] != 0).all()
    assert (attention(queries, keys, torch.zeros(2, 5, dtype=torch.bool)) == 0).all()
    found.sum().backward()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()


def test_attention_drops_out_in_training_only() -> None:
    torch.manual_seed(0)
    attention, x = Attention(4, heads=1, dropout=0.5), torch.randn(1, 6, 4)
    mask = torch.ones(1, 6, dtype=torch.bool)
    assert not attention(x, x, mask).equal(attention(x, x, mask))
    attention.eval()
    assert attention(x, x, mask).equal(attention(x, x, mask))


def test_heads_must_divide_dim() -> None:
    with pytest.raises(UsageError, match=r"^dim \(6\) must be divisible by heads \(4\)$"):
        Attention(6, heads=4)


def test_block_adds_to_what_came_in() -> None:
    torch.manual_seed(0)
    block, x, context = Block(4, heads=2).eval(), torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    mask = torch.ones(2, 5, dtype=torch.bool)
    middle = x + block.attention(block.norm_queries(x), context, mask)
    torch.testing.assert_close(block(x, mask, context), middle + block.feed_forward(block.norm_out(middle)))
    for layer in (block.attention.out, block.feed_forward[3]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert block(x, mask[:, :3]).equal(x)
