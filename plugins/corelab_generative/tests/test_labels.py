from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from corelab_generative.labels import choose, unconditional

from corelab import ConfigError

CPU = torch.device("cpu")
CLOTHES = SimpleNamespace(classes=("shirt", "coat", "7"))


def test_without_a_class_all_take_turns():
    assert choose(CLOTHES, "", 5, CPU).tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(("class_", "label"), [("coat", 1), ("0", 0), ("2", 2), ("7", 2)])
def test_a_class_is_chosen_by_its_name_or_else_its_number(class_, label):
    assert choose(CLOTHES, class_, 3, CPU).tolist() == [label] * 3


def test_a_class_that_does_not_exist_is_told():
    with pytest.raises(ConfigError, match="there is no class 'short': did you mean 'shirt'"):
        choose(CLOTHES, "short", 3, CPU)
    with pytest.raises(ConfigError, match="there is no class '3': there are shirt, coat, 7"):
        choose(CLOTHES, "3", 3, CPU)


def test_a_run_without_classes_says_how_to_get_them():
    unconditional("")
    with pytest.raises(ConfigError, match=r"train it with --algorithm\.conditional"):
        unconditional("coat")
