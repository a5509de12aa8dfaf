"""Cut a directed acyclic graph where one tensor carries everything; plain numbers, no Keras."""

from __future__ import annotations

from typing import Dict, List, Sequence, Set, Tuple

# A piece larger than this (in layers with weights) that is also most of the graph is no block but a
# network whose frontier never narrows: a U-Net, or cells that pass on two tensors.
KNOT = 24
# A tensor kept for longer than this part of such a piece is a long skip, no part of a block.
LONG = 0.25


def cut(parents: Sequence[Sequence[int]], weights: Sequence[int]) -> List[List[int]]:
    """Pieces of a graph, in execution order.

    Args:
        parents: per node, in topological order, the indices of the nodes it takes from.
        weights: per node, how many layers with weights it stands for.

    Returns:
        Lists of node indices. A branch structure (residual, inception, squeeze-excite) is in
        one piece, unless a skip spans a good part of the network. Input towers beside the
        longest path come before the piece they enter, side outputs last; each is cut the same
        way.
    """
    return _cut_nodes(list(range(len(parents))), parents, weights)


def _cut_nodes(
    nodes: List[int], parents: Sequence[Sequence[int]], weights: Sequence[int]
) -> List[List[int]]:
    if not nodes:
        return []
    inside = set(nodes)
    up = {n: [p for p in parents[n] if p in inside] for n in nodes}
    path = _longest_path(nodes, up, weights)
    reach = _ancestors([path[-1]], up)
    below = _descendants(path[0], nodes, up)
    main = [n for n in nodes if n in reach and n in below]
    towers = [n for n in nodes if n in reach and n not in below]
    sides = [n for n in nodes if n not in reach]
    total = sum(weights[n] for n in nodes)
    pieces: List[List[int]] = []
    for piece in _single_tensor_pieces(main, up):
        pieces += _untie(piece, up, weights, total)
    for group in _components(towers, up):
        at = next(
            i for i, piece in enumerate(pieces) if any(set(up[n]) & set(group) for n in piece)
        )
        pieces[at:at] = _cut_nodes(group, parents, weights)
    for group in _components(sides, up):
        pieces += _cut_nodes(group, parents, weights)
    return pieces


def _single_tensor_pieces(nodes: List[int], up: Dict[int, List[int]]) -> List[List[int]]:
    """Cut after each node that every path from the first node to the last one goes through."""
    place = {n: i for i, n in enumerate(nodes)}
    last_use = dict.fromkeys(nodes, -1)
    for n in nodes:
        for p in up[n]:
            if p in place:
                last_use[p] = place[n]
    pieces, start, open_until = [], 0, -1
    for i, n in enumerate(nodes):
        if open_until <= i:
            pieces.append(nodes[start : i + 1])
            start = i + 1
        open_until = max(open_until, last_use[n])
    if start < len(nodes):
        pieces.append(nodes[start:])
    return pieces


def _untie(
    piece: List[int], up: Dict[int, List[int]], weights: Sequence[int], total: int
) -> List[List[int]]:
    """Cut a piece that is most of a network, at long skips, else where least is carried."""
    size = sum(weights[n] for n in piece)
    if size <= KNOT or 2 * size <= total:
        return [piece]
    entries = sorted({p for n in piece for p in up[n]} - set(piece))
    nodes = entries + piece
    inner = {n: ([] if n in entries else up[n]) for n in nodes}
    used_by: Dict[int, List[int]] = {n: [] for n in nodes}
    for n in nodes:
        for p in inner[n]:
            used_by[p].append(n)
    position, done = {}, 0
    for n in nodes:
        done += 0 if n in entries else weights[n]
        position[n] = done
    long = {n for n in nodes if used_by[n] and _reach(n, used_by, position) > LONG * size}
    closed: Set[int] = set(entries)
    at_skips, at_merges = [], []
    for m in _longest_path(nodes, inner, weights):
        closed |= _ancestors([m], inner)
        carried = {n for n in closed if any(user not in closed for user in used_by[n])}
        if m in entries or not carried:
            continue
        if carried - long <= {m}:
            at_skips.append(frozenset(closed))
        if len(inner[m]) > 1:
            at_merges.append((len(carried), frozenset(closed)))
    chosen = at_skips
    if not chosen and at_merges:
        least = min(width for width, _ in at_merges)
        chosen = [found for width, found in at_merges if width == least]
    pieces: List[List[int]] = []
    before: frozenset[int] = frozenset(entries)
    for found in [*chosen, frozenset(nodes)]:
        pieces.append([n for n in piece if n in found and n not in before])
        before = found
    return [part for part in pieces if part]


def _reach(n: int, used_by: Dict[int, List[int]], position: Dict[int, int]) -> int:
    return max(position[user] for user in used_by[n]) - position[n]


def _longest_path(nodes: List[int], up: Dict[int, List[int]], weights: Sequence[int]) -> List[int]:
    """The path with most layers that own weights, then most nodes."""
    best: Dict[int, Tuple[int, int]] = {}
    came: Dict[int, int] = {}
    for n in nodes:
        weight, length = 0, 0
        for p in up[n]:
            if n not in came or best[p] > (weight, length):
                (weight, length), came[n] = best[p], p
        best[n] = (weight + weights[n], length + 1)
    end = max(nodes, key=lambda n: best[n])
    path = [end]
    while path[-1] in came:
        path.append(came[path[-1]])
    return path[::-1]


def _ancestors(start: Sequence[int], up: Dict[int, List[int]]) -> Set[int]:
    """The nodes themselves and all that they depend on."""
    found, pending = set(start), list(start)
    while pending:
        for p in up[pending.pop()]:
            if p not in found:
                found.add(p)
                pending.append(p)
    return found


def _descendants(start: int, nodes: List[int], up: Dict[int, List[int]]) -> Set[int]:
    found = {start}
    for n in nodes:
        if any(p in found for p in up[n]):
            found.add(n)
    return found


def _components(nodes: List[int], up: Dict[int, List[int]]) -> List[List[int]]:
    """Groups of nodes that hang together, each in execution order."""
    inside = set(nodes)
    group: Dict[int, int] = {n: n for n in nodes}

    def root(n: int) -> int:
        while group[n] != n:
            n = group[n]
        return n

    for n in nodes:
        for p in up[n]:
            if p in inside:
                group[root(n)] = root(p)
    found: Dict[int, List[int]] = {}
    for n in nodes:
        found.setdefault(root(n), []).append(n)
    return list(found.values())
