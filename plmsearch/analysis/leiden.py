"""Leiden communities of a graph without weights, at a density: Potts model, exact and reproducible.

Concepts
--------
The *quality* of a partition is the number of links inside its communities, less a density g times the
number of pairs inside them: the constant Potts model (Traag, Van Dooren and Nesterov 2011,
doi:10.1103/PhysRevE.84.016114). Where it is highest, pairs inside a community are linked at a share of at
least g, and those between two communities at a share of at most g. Quality is a sum over communities and
over nothing else, so what happens in one connected component does not move another; modularity has no such
property, and a resolution limit besides.

The algorithm is Leiden (Traag, Waltman and van Eck 2019, doi:10.1038/s41598-019-41695-z): nodes move,
communities are refined, and what was refined is aggregated; refinement merges with the best neighbour
(their parameter theta at its limit 0). It is repeated from its own result until nothing changes. A
community is connected.

The density is a fraction and all gains are whole numbers, so that ties are ties: the same graph, order of
nodes and seed give the same communities on every machine.

Limitations
-----------
Plain Python: about two million links a minute. A node is not joined to another only because both have few
links: two nodes that are not linked are together only if others hold them together.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["communities"]

#: Neighbours of each node with the number of links.
Graph = Sequence[Mapping[int, int]]

_MOST_ROUNDS = 20  # of the whole algorithm; two or three are usual


def communities(neighbours: Sequence[Sequence[int]], density: Fraction, seed: int = 0) -> list[int]:
    """Divide the nodes of a graph.

    Parameters
    ----------
    neighbours : sequence of sequence of int, length n
        Linked nodes of each node, both ways, itself not among them.
    density : Fraction
        More than 0 and at most 1.
    seed : int
        Of the order in which nodes are looked at.

    Returns
    -------
    list of int, length n
        Smallest node of each node's community.

    Examples
    --------
    >>> bridge = [[1, 2], [0, 2], [0, 1, 3], [2, 4, 5], [3, 5], [3, 4]]
    >>> communities(bridge, Fraction(1, 2))
    [0, 0, 0, 3, 3, 3]
    """
    n = len(neighbours)
    if sum(map(len, neighbours)) == n * (n - 1):
        return [0] * n  # every pair is linked
    rng = random.Random(seed)  # noqa: S311
    base = [dict.fromkeys(near, 1) for near in neighbours]
    found = list(range(n))
    for _ in range(_MOST_ROUNDS):
        better = _smallest(_round(base, found, density, rng))
        if better == found:
            break
        found = better
    return _smallest(_connected(neighbours, found))


@dataclass(slots=True)
class _State:
    """A partition in work: community of each node, nodes of the base graph in each node and community."""

    graph: Graph
    of: list[int]
    size: list[int]
    total: dict[int, int]
    density: Fraction

    @classmethod
    def start(cls, graph: Graph, of: Sequence[int], size: list[int], density: Fraction) -> _State:
        total: dict[int, int] = {}
        for node, community in enumerate(of):
            total[community] = total.get(community, 0) + size[node]
        return cls(graph, list(of), size, total, density)

    def links(self, node: int) -> dict[int, int]:
        """Count the links of a node with each community."""
        found: dict[int, int] = {}
        for other, weight in self.graph[node].items():
            community = self.of[other]
            found[community] = found.get(community, 0) + weight
        return found

    def gain(self, node: int, n_links: int, n_others: int) -> int:
        """Return what joining a node with so many others is worth, times the density's denominator."""
        return self.density.denominator * n_links - self.density.numerator * self.size[node] * n_others

    def move(self, node: int, community: int) -> None:
        self.total[self.of[node]] -= self.size[node]
        self.total[community] = self.total.get(community, 0) + self.size[node]
        self.of[node] = community


def _round(base: Graph, start: Sequence[int], density: Fraction, rng: random.Random) -> list[int]:
    """Run the algorithm once, from a partition; return the community of each node."""
    graph, of, size = base, list(start), [1] * len(base)
    node_of = list(range(len(base)))  # of each node of the base graph
    while True:
        state = _State.start(graph, of, size, density)
        _move(state, rng)
        refined = _refine(state, rng)
        names = {community: i for i, community in enumerate(dict.fromkeys(refined))}
        if len(names) == len(graph):
            return [state.of[node] for node in node_of]
        parts = [names[community] for community in refined]
        kept = dict(zip(parts, state.of, strict=True))
        of = [kept[part] for part in range(len(names))]
        graph, size = _aggregated(graph, parts, size, len(names))
        node_of = [parts[node] for node in node_of]


def _move(state: _State, rng: random.Random) -> None:
    """Move nodes to the community where they are worth most, until none moves."""
    order = list(range(len(state.graph)))
    rng.shuffle(order)
    waiting, is_waiting = deque(order), [True] * len(order)
    empty = max(state.of, default=0) + 1  # a community of nobody
    while waiting:
        node = waiting.popleft()
        is_waiting[node] = False
        own, links = state.of[node], state.links(node)
        best, most = own, state.gain(node, links.get(own, 0), state.total[own] - state.size[node])
        for community in sorted(links.keys() - {own}):
            gain = state.gain(node, links[community], state.total[community])
            if gain > most:
                best, most = community, gain
        if most < 0:
            best, empty = empty, empty + 1
        if best == own:
            continue
        state.move(node, best)
        for other in state.graph[node]:
            if state.of[other] != best and not is_waiting[other]:
                is_waiting[other] = True
                waiting.append(other)


def _refine(state: _State, rng: random.Random) -> list[int]:
    """Divide each community into well connected parts: nodes that are alone join the best part of it."""
    parts = _State.start(state.graph, list(range(len(state.graph))), state.size, state.density)
    outward = [_links_within(state, node) for node in range(len(state.graph))]
    order = list(range(len(state.graph)))
    rng.shuffle(order)
    for node in order:
        whole = state.total[state.of[node]]
        if parts.total[node] != state.size[node] or parts.of[node] != node:
            continue  # somebody has joined it, or it somebody
        if state.gain(node, outward[node], whole - state.size[node]) < 0:
            continue
        best, most, shared = node, 0, 0
        for part, n_links in sorted(_parts_near(state, parts, node).items()):
            n_part = parts.total[part]
            is_well_connected = outward[part] * state.density.denominator >= (
                state.density.numerator * n_part * (whole - n_part)
            )
            gain = state.gain(node, n_links, n_part)
            if is_well_connected and gain > most:
                best, most, shared = part, gain, n_links
        if best != node:
            parts.move(node, best)
            outward[best] += outward[node] - 2 * shared
    return parts.of


def _links_within(state: _State, node: int) -> int:
    """Count the links of a node with others of its community."""
    own = state.of[node]
    return sum(weight for other, weight in state.graph[node].items() if state.of[other] == own)


def _parts_near(state: _State, parts: _State, node: int) -> dict[int, int]:
    """Count the links of a node with each part of its community."""
    own = state.of[node]
    found: dict[int, int] = {}
    for other, weight in state.graph[node].items():
        if state.of[other] == own:
            found[parts.of[other]] = found.get(parts.of[other], 0) + weight
    return found


def _aggregated(
    graph: Graph, parts: Sequence[int], size: Sequence[int], n: int
) -> tuple[list[dict[int, int]], list[int]]:
    """Make one node of each part."""
    links: list[dict[int, int]] = [{} for _ in range(n)]
    sizes = [0] * n
    for node, part in enumerate(parts):
        sizes[part] += size[node]
        of_part = links[part]
        for other, weight in graph[node].items():
            if parts[other] != part:
                of_part[parts[other]] = of_part.get(parts[other], 0) + weight
    return links, sizes


def _connected(neighbours: Sequence[Sequence[int]], of: Sequence[int]) -> list[int]:
    """Divide communities that are not connected, which is worth more."""
    found = [-1] * len(of)
    for node in range(len(of)):
        if found[node] >= 0:
            continue
        found[node], waiting = node, [node]
        while waiting:
            for other in neighbours[waiting.pop()]:
                if found[other] < 0 and of[other] == of[node]:
                    found[other] = node
                    waiting.append(other)
    return found


def _smallest(of: Sequence[int]) -> list[int]:
    """Name each community by its smallest node."""
    first: dict[int, int] = {}
    for node, community in enumerate(of):
        first.setdefault(community, node)
    return [first[community] for community in of]
