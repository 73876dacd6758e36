from pathlib import Path

import pytest
from table_study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)
