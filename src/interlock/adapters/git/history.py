"""Which commits wrote a folder: pure, on the graph of commits and the folder's tree at each.

A commit writes a folder when it differs there from all its parents: a merge that takes one side
as it is writes nothing. But a merge can also take a state from long ago that none of the commits
it brings in wrote; then whoever merged chose it, and counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

Graph = Mapping[str, tuple[str, ...]]
"""Commits in question, newest first, each with its parents; a parent may lie outside."""
Trees = Mapping[str, str | None]
"""The folder's tree at each commit and parent; None: absent."""


def writers(graph: Graph, trees: Trees) -> list[str]:
    """The commits that wrote the folder."""
    return [
        commit
        for commit, parents in graph.items()
        if (all(trees[parent] != trees[commit] for parent in parents) if parents else trees[commit] is not None)
    ]


def choosers(graph: Graph, trees: Trees, start: str | None, wrote: Collection[str]) -> list[str]:
    """The merges that brought in a state which nobody wrote in what they brought in.

    Args:
        graph: the commits in question.
        trees: the folder's tree at each.
        start: the folder's tree where the question begins: taking that is no choice.
        wrote: the commits that count as having written.
    """
    return [
        commit
        for commit, parents in graph.items()
        if len(parents) > 1
        and trees[commit] not in (trees[parents[0]], start)
        and trees[commit] in [trees[parent] for parent in parents[1:]]
        and not any(trees[each] == trees[commit] for each in _brought(graph, parents) if each in wrote)
    ]


def _brought(graph: Graph, parents: tuple[str, ...]) -> set[str]:
    return _reach(graph, parents[1:]) - _reach(graph, parents[:1])


def _reach(graph: Graph, tips: Iterable[str]) -> set[str]:
    found: set[str] = set()
    left = [tip for tip in tips if tip in graph]
    while left:
        commit = left.pop()
        if commit not in found:
            found.add(commit)
            left += [parent for parent in graph[commit] if parent in graph]
    return found
