"""What each player of a small game is worth, alone and with another: exact, from the values of all coalitions.

Coalitions are numbered: player j is in coalition s where bit j of s is 1, so the first is empty and the last is all.
"""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def players_of(coalitions: int) -> int:
    """Return how many players have so many coalitions.

    Raises:
        ValueError: the number is no power of two.
    """
    if coalitions < 1 or coalitions & (coalitions - 1):
        raise ValueError(f"players have a power of two of coalitions; got {coalitions}")
    return coalitions.bit_length() - 1


def shapley_weights(players: int) -> Array:
    """Return the matrix that turns the values of coalitions into Shapley values.

    A player is worth what joining a coalition adds, averaged over sizes and then over the coalitions of that size. The
    values add up to what all are worth more than none; who never adds anything gets 0; who are interchangeable get the
    same.

    Shape:
        (M, 2**M).

    Reference:
        Shapley, A Value for n-Person Games, 1953.
    """
    inside = _members(players)
    sizes = inside.sum(0)
    joined = np.array([1 / (players * comb(players - 1, max(0, size - 1))) for size in sizes])
    without = np.array([1 / (players * comb(players - 1, min(players - 1, size))) for size in sizes])
    return np.where(inside, joined, -without)


def interaction_weights(players: int) -> Array:
    """Return what turns the values of coalitions into the interaction index of every two players.

    The index is what two add together beyond what each adds alone, averaged over sizes of the coalition that they join
    and over the coalitions of that size: above 0 they need each other, below 0 one can stand in for the other. Entries
    of a player with itself are 0.

    Shape:
        (M, M, 2**M).

    Reference:
        Grabisch, Roubens, An Axiomatic Approach to the Concept of Interaction among Players in Cooperative Games, 1999.
    """
    inside = _members(players)
    found = np.zeros((players, players, 2**players))
    for one in range(players):
        for other in range(players):
            if one == other:
                continue
            both = inside[one].astype(np.int64) + inside[other]
            rest = inside.sum(0) - both
            shares = [1 / ((players - 1) * comb(players - 2, size)) for size in rest]
            found[one, other] = np.where(both == 1, -1, 1) * shares
    return found


def shapley_values(values: Array) -> Array:
    """Return the Shapley value of every player. Shape: (2**M, ...) -> (M, ...)."""
    return np.tensordot(shapley_weights(players_of(len(values))), values, axes=1)


def interactions(values: Array) -> Array:
    """Return the interaction index of every two players. Shape: (2**M, ...) -> (M, M, ...)."""
    return np.tensordot(interaction_weights(players_of(len(values))), values, axes=1)


def _members(players: int) -> Array:
    """Tell who is in which coalition. Shape: (M, 2**M) bool."""
    return (np.arange(2**players)[None, :] >> np.arange(players)[:, None] & 1).astype(np.bool_)
