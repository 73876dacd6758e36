"""Tables and a YAML in a folder, and the cohort that is made of them, for tests of `preprocess table`."""

from pathlib import Path

from omnifuse import config
from omnifuse.preprocess import store
from omnifuse.preprocess.table.build import build_cohort


class Study:
    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, **files: str | bytes) -> None:
        """`labs_csv="..."` makes labs.csv."""
        for name, content in files.items():
            path = self.folder / name.replace("_csv", ".csv").replace("_txt", ".txt")
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def build(self, manifest: str, out: str = "cohort", seed: int = 0, **files: str | bytes) -> store.Artefact:
        self.write(**files)
        tree = config.read_yaml(manifest, "study.yaml")
        return build_cohort(tree, "study.yaml", self.folder, self.folder / out, seed=seed)


def people(count: int = 40, extra: str = "", **columns) -> str:
    """A table with pid, y (every second is 1) and more columns: name=function of the number."""
    names = ["pid", "y", *columns]
    rows = [",".join([f"p{n:03d}", str(n % 2), *(str(make(n)) for make in columns.values())]) for n in range(count)]
    return "\n".join([",".join(names), *rows]) + "\n" + extra


HEAD = """table: people.csv
patient: pid
task: outcome
label: {column: y}
"""
