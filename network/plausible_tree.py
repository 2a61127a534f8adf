"""What cannot be a feeder, of how its parts hang together: loops, buses without supply, conductors and earth that do not arrive.

Each function returns sentences, as those of :mod:`network.plausible` about each part for itself; :class:`network.feeder.Feeder`
collects them and raises once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from network.elements import Branches, Buses
from network.plausible import named
from network.radial import Tree, loop_through

__all__ = ["earth_mistakes", "phase_mistakes", "tree_mistakes"]

Mask = NDArray[np.bool_]


def tree_mistakes(tree: Tree, buses: Buses, branches: Branches, source: int) -> list[str]:
    """Return what keeps the branches in service from being one tree: loops, and buses without supply."""
    mistakes = []
    for closing in tree.closing:
        ends = int(branches.from_bus[closing]), int(branches.to_bus[closing])
        others = [branches.ids[k] for k in loop_through(tree, *ends)]
        mistakes.append(
            f"branch {branches.ids[closing]!r} closes a loop with {named(others)}. "
            f"Take one of them out of service: the feeder must be radial."
        )
    if unreached := [buses.ids[k] for k in tree.unreached]:
        verb, them = ("is", "it") if len(unreached) == 1 else ("are", "them")
        mistakes.append(
            f"bus{'es' * (verb == 'are')} {named(unreached)} {verb} not connected to the source bus {buses.ids[source]!r}. "
            f"Give {them} a branch in service, or leave {them} out."
        )
    return mistakes


def phase_mistakes(tree: Tree, buses: Buses, branches: Branches) -> list[str]:
    """Return where a branch continues a conductor that does not arrive."""
    arrives = np.ones((len(buses.ids), 3), dtype=bool)
    conductors, mistakes = branches.conductors, []
    for bus in tree.order[1:]:
        branch, above = tree.parent_branch[bus], tree.parent[bus]
        lacking = "".join(np.array(list("abc"))[conductors[branch] & ~arrives[above]])
        if lacking:
            mistakes.append(
                f"branch {branches.ids[branch]!r} has phase {lacking!r}, which does not arrive at bus {buses.ids[above]!r}."
            )
        arrives[bus] = conductors[branch] & arrives[above]
    hangs: Mask = np.asarray(buses.shunt_siemens.any(axis=2))
    mistakes += [
        f"the shunt at bus {buses.ids[bus]!r} uses a phase that does not arrive there."
        for bus in buses.shunted
        if (hangs[bus] & ~arrives[bus]).any()
    ]
    return mistakes


def earth_mistakes(unearthed: Mask, tree: Tree, buses: Buses, branches: Branches) -> list[str]:
    """Return what is joined to earth behind a delta winding, which has none."""
    y, behind = buses.shunt_siemens, "lies behind a delta winding, which has no earth"
    mistakes = [
        f"bus {buses.ids[bus]!r} {behind}, and its shunt is joined to it. Put the shunt between the phases."
        for bus in buses.shunted
        if unearthed[bus] and (np.abs(y[bus].sum(axis=1)) > 1e-9 * np.abs(y[bus]).max()).any()
    ]
    for bus in np.flatnonzero(unearthed):
        branch = tree.parent_branch[bus]
        told = branches.untransposed[branch]
        c = np.nan_to_num(branches.c_abc_nf[branch].sum(axis=1) if told else branches.c0_nf[branch])
        if branches.kind[branch] == "line" and np.any(np.abs(c) > 0):
            mistakes.append(f"line {branches.ids[branch]!r} {behind}, and has a capacitance to it. Leave that out.")
    for branch in np.flatnonzero(~branches.is_line & branches.in_service):
        star = branches.clock[branch] % 2 == 0 and branches.windings[branch] != "dd"
        if star and unearthed[[branches.from_bus[branch], branches.to_bus[branch]]].any():
            mistakes.append(f"transformer {branches.ids[branch]!r} {behind}, and is star-star with earthed neutrals.")
    return mistakes
