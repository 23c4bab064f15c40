"""Where nodes have their values: outside, in a call of a function, in a round of a loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_graph.graph import GraphNode, source_of

MAX_DEPTH = 16
"""Most loops and functions within each other."""


class Dead:
    """What the branch of a condition gives that is not taken."""


DEAD = Dead()


@dataclass(eq=False)
class Scope:
    """The values of nodes in one round of a loop, in a call of a function, or outside of these."""

    nodes: Mapping[str, GraphNode]
    found: dict[str, tuple[Any, ...] | Dead]
    outer: Scope | None = None
    """Where a loop takes its values from."""
    depth: int = 0
    loops: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each loop gave, by frame name and Merge node."""


@dataclass(frozen=True, eq=False)
class Loop:
    """The nodes of a loop: its condition, and for each Merge what enters and what comes next."""

    condition: str
    entries: Mapping[str, str]
    following: Mapping[str, str]


def is_true(condition: Any) -> bool:
    """Whether a constant condition holds. Raises ImporterError where it is computed."""
    if not isinstance(condition, Tensor) or condition.numel() != 1:
        raise ImporterError("loops or branches as a signal says, expected a number of rounds")
    return bool(condition)


def deeper(depth: int) -> int:
    """A depth of nesting. Raises ImporterError where it is too deep."""
    if depth > MAX_DEPTH:
        raise ImporterError(f"has more than {MAX_DEPTH} loops or functions within each other")
    return depth


def node_of(scope: Scope, name: str) -> GraphNode:
    """A node by its name. Raises ImporterError where it is missing."""
    if name not in scope.nodes:
        raise ImporterError(f"needs the node {name!r}, which is not in the file")
    return scope.nodes[name]


def first_of(node: GraphNode) -> str:
    """The first input of a node. Raises ImporterError where there is none."""
    if not node.inputs:
        raise ImporterError(f"node {node.name!r} has no input; the file is damaged")
    return node.inputs[0]


def sources_of(node: GraphNode) -> list[str]:
    """The nodes that have to run first; what is outside of a loop, or inside, runs apart."""
    if node.op in ("Enter", "RefEnter", "Exit", "RefExit"):
        return []
    return [source_of(given) for given in node.inputs if not given.startswith("^")]


def frame_of(scope: Scope, merge: GraphNode) -> str:
    """The frame of a loop that a Merge belongs to."""
    entry = node_of(scope, source_of(first_of(merge)))
    if merge.op not in ("Merge", "RefMerge") or entry.op not in ("Enter", "RefEnter"):
        raise ImporterError(f"node {merge.name!r} is in no loop; the file is damaged")
    return entry.attribute("frame_name").text


def loop_of(scope: Scope, frame: str, switch: GraphNode) -> Loop:
    """The nodes of a frame, found by its Merges."""
    entries, following = {}, {}
    for node in scope.nodes.values():
        if node.op not in ("Merge", "RefMerge") or len(node.inputs) < 2:
            continue
        entry = scope.nodes.get(source_of(node.inputs[0]))
        if entry is None or entry.attribute("frame_name").text != frame:
            continue
        entries[node.name] = first_of(entry)
        following[node.name] = first_of(node_of(scope, source_of(node.inputs[1])))
    if len(switch.inputs) < 2:
        raise ImporterError(f"node {switch.name!r} has no condition; the file is damaged")
    return Loop(switch.inputs[1], entries, following)
