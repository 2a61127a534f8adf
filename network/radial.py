"""The tree a radial feeder is: who feeds whom, and what stands in the way of a tree.

A feeder in service must be one tree rooted at its source: n buses, n − 1 branches in service, every bus reached.  A
branch too many closes a loop, a branch too few leaves buses without supply; both are told by name, because a person
who draws a network wants to know *where*.

The order of the buses is depth first (a bus, then everything it feeds), so that the buses fed through a bus stand
side by side: the part of the feeder behind ``order[k]`` is ``order[k : k + size]``.  Both passes of a radial
calculation, and the common paths of :mod:`network.acflow`, live on that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tree", "loop_through", "span"]

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The tree found from the source, and what did not fit into it."""

    parent: Index
    """The bus that feeds each bus; −1 at the source and where nothing feeds it.  Shape (n,)."""

    parent_branch: Index
    """The branch through which it is fed; −1 likewise.  Shape (n,)."""

    order: Index
    """The buses that are reached, depth first from the source.  Shape (k,), k <= n."""

    closing: tuple[int, ...]
    """Branches in service that close a loop.  Empty in a radial feeder."""

    @property
    def unreached(self) -> Index:
        """The buses without supply."""
        reached = np.zeros(len(self.parent), dtype=bool)
        reached[self.order] = True
        return np.flatnonzero(~reached)


def span(n_bus: int, from_bus: Index, to_bus: Index, in_service: NDArray[np.bool_], source: int) -> Tree:
    """Walk the feeder from its source, depth first, in the order in which the branches are listed.

    Parameters
    ----------
    n_bus
        Number of buses, n.
    from_bus, to_bus : shape (m,)
        The ends of each branch, as bus indices in 0…n−1.
    in_service : shape (m,)
        Branches that are switched on.
    source
        The bus at which the feeder is fed.

    Examples
    --------
    Three buses in a row and a fourth branch that closes a loop:

    >>> tree = span(3, np.array([0, 1, 0]), np.array([1, 2, 2]), np.array([True, True, True]), 0)
    >>> tree.order.tolist(), tree.parent.tolist(), tree.closing
    ([0, 1, 2], [-1, 0, 1], (2,))
    """
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(n_bus)]
    for branch in np.flatnonzero(in_service).tolist():
        one, other = int(from_bus[branch]), int(to_bus[branch])
        neighbours[one].append((other, branch))
        if one != other:
            neighbours[other].append((one, branch))

    parent = np.full(n_bus, -1, dtype=np.intp)
    parent_branch = np.full(n_bus, -1, dtype=np.intp)
    reached = np.zeros(n_bus, dtype=bool)
    reached[source] = True
    order: list[int] = [source]
    used: set[int] = set()
    walk = [iter(neighbours[source])]
    here = [source]
    while walk:
        step = next(((bus, branch) for bus, branch in walk[-1] if not reached[bus]), None)
        if step is None:
            walk.pop()
            here.pop()
            continue
        bus, branch = step
        reached[bus] = True
        parent[bus], parent_branch[bus] = here[-1], branch
        used.add(branch)
        order.append(bus)
        walk.append(iter(neighbours[bus]))
        here.append(bus)

    closing = tuple(
        branch for branch in np.flatnonzero(in_service).tolist() if branch not in used and reached[from_bus[branch]]
    )
    return Tree(parent, parent_branch, np.array(order, dtype=np.intp), closing)


def loop_through(tree: Tree, one: int, other: int) -> list[int]:
    """Return the branches of the tree between two buses: with a closing branch they make the loop."""

    def up(bus: int) -> list[int]:
        path = []
        while tree.parent[bus] >= 0:
            path.append(int(tree.parent_branch[bus]))
            bus = int(tree.parent[bus])
        return path

    left, right = up(one), up(other)
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    return left + right[::-1]
