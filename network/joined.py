"""Which nodes are one: a union of pairs, as closed switches make it."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["join"]


def join(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of ``count`` nodes the first node of its group.

    Parameters
    ----------
    count
        Number of nodes.
    pairs
        Nodes that are one, directly.

    Examples
    --------
    >>> join(5, [(3, 1), (4, 3)])
    [0, 1, 2, 1, 1]
    """
    first = list(range(count))

    def find(node: int) -> int:
        while first[node] != node:
            first[node] = first[first[node]]  # halve the way for the next one
            node = first[node]
        return node

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        first[high] = low
    return [find(node) for node in range(count)]
