"""omegaconf 2.0, which official fairseq needs, copies a node's parents with it: the whole tree, each time.

Half of what it takes to start a fairseq command goes there, more than the training of a tiny model.
omegaconf 2.1 leaves the parents out, and here 2.0 does too; test_omegaconf_copies.py compares.
"""

import contextlib
import functools
from typing import Callable, Iterator, List
from unittest import mock

import omegaconf
from omegaconf import nodes

COPIES_PARENTS = omegaconf.__version__.startswith("2.0.")


@contextlib.contextmanager
def copies_without_parents() -> Iterator[None]:
    """In which the copy of a node keeps the node's own parent until it is given another."""
    with _copied_by(_leaving_the_parent):
        yield


@contextlib.contextmanager
def copies_as_released() -> Iterator[None]:
    """In which the above does not hold, though it is inside of it."""
    with _copied_by(lambda copy: copy.__wrapped__):
        yield


@contextlib.contextmanager
def _copied_by(change: Callable) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for kind in _kinds_of_nodes() if COPIES_PARENTS else ():
            changed = mock.patch.object(kind, "__deepcopy__", change(kind.__deepcopy__))
            stack.enter_context(changed)
        yield


def _kinds_of_nodes() -> List[type]:
    values = [
        kind for kind in vars(nodes).values() if "__deepcopy__" in getattr(kind, "__dict__", ())
    ]
    return [omegaconf.DictConfig, omegaconf.ListConfig, *values]


def _leaving_the_parent(copy: Callable) -> Callable:
    @functools.wraps(copy)
    def leaving(self, memo=None):
        memo = {} if memo is None else memo
        parent = self._get_parent()
        if parent is not None:
            memo.setdefault(id(parent), parent)  # as if it had been copied already
        return copy(self, memo)

    return leaving
