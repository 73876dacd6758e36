"""One small clinic for all tests of this folder, and worlds with a few knobs changed."""

import pytest
import threadpoolctl
import yaml

from omnifuse.preprocess.clinic.generate import generate
from omnifuse.preprocess.clinic.worldfile import read_world


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpoolctl.threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def clinic(tmp_path_factory):
    """150 patients of the default world: folder of the raw tables, and the summary."""
    raw = tmp_path_factory.mktemp("clinic") / "raw"
    return raw, generate(raw, patients=150, seed=3)


@pytest.fixture
def world_with(tmp_path):
    """The default world with some knobs changed, as a file or read."""

    def write(change: dict, read: bool = True):
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump({"base": "default", **change}))
        return read_world(path) if read else path

    return write
