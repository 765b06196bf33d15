"""What the tests of several algorithms do in the same way."""

from __future__ import annotations

import pytest

from corelab.state import load_tree, save_tree


@pytest.fixture
def resumed(tmp_path):
    """An algorithm that was saved after so many steps and loaded into a new one, at its end.

    `begin()` gives an algorithm and its context. That the metrics are those EXPECTED of all steps
    is asserted here.
    """

    def go_on(begin, instant, expected):
        algorithm, context = begin()
        for _ in range(instant):
            algorithm.step()
        directory = tmp_path / str(instant)
        directory.mkdir()
        algorithm.save(directory)
        save_tree(directory / "streams", context.state_dict())

        algorithm, context = begin()
        algorithm.load(directory)
        context.load_state_dict(load_tree(directory / "streams"))
        assert [algorithm.step() for _ in expected[instant:]] == expected[instant:]
        return algorithm

    return go_on
