"""What the tests of several algorithms do in the same way."""

from __future__ import annotations

import pytest

from corelab.state import load_tree, save_tree


@pytest.fixture
def interrupted(tmp_path):
    """Runs that were saved and loaded, each beside one that was not, both at their end.

    `begin()` gives an algorithm and its context. The metrics of all steps are compared here.
    """

    def pairs(begin, steps, instants):
        uninterrupted, _ = begin()
        expected = [uninterrupted.step() for _ in range(steps)]
        for instant in instants:
            algorithm, context = begin()
            for _ in range(instant):
                algorithm.step()
            directory = tmp_path / str(instant)
            directory.mkdir()
            algorithm.save(directory)
            save_tree(directory / "streams", context.state_dict())

            resumed, context = begin()
            resumed.load(directory)
            context.load_state_dict(load_tree(directory / "streams"))
            assert [resumed.step() for _ in range(steps - instant)] == expected[instant:]
            assert resumed.progress == uninterrupted.progress
            yield resumed, uninterrupted

    return pairs
