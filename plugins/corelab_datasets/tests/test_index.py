from __future__ import annotations

import subprocess
import sys

import corelab_datasets


def test_the_index_imports_nothing_heavy():
    code = (
        "import sys, corelab_datasets; corelab_datasets.corelab_components();"
        "print({'torch', 'numpy', 'sklearn', 'PIL'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_every_data_set_is_where_the_index_says():
    for component in corelab_datasets.corelab_components():
        module, _, name = component.target.partition(":")
        task = getattr(__import__(module, fromlist=[name]), name)
        assert task.Config is not None
        assert component.provides == "dataset"
