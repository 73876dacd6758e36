"""The recipes of docs/recipes: their YAML is accepted, their commands parse, their counts are pinned, their lines of Python run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from omnifuse import config, encodings, preparations, workspace
from omnifuse.main import root
from omnifuse.models import registry
from omnifuse.preprocess.mimic.source import KNOWN_ROWS, MIMIC3, MIMIC4
from omnifuse.preprocess.table.build import build_cohort
from omnifuse.preprocess.table.manifest import describe

FOLDER = Path(__file__).parents[1] / "docs" / "recipes"
PAGES = sorted(FOLDER.glob("*.md"))
READS = {"cxr": "image", "rep": "text", "dn": "text", "sig": "signal", "ct": "volume", "pet": "volume"}


def commands(page: Path) -> list[list[str]]:
    """Every command line of omnifuse, of blocks and in the text, as arguments."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(omnifuse [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("omnifuse ")]


LINES = [pytest.param(line, id=f"{page.stem}: {' '.join(line)}") for page in PAGES for line in commands(page)]


def parse(command: click.Command, name: str, arguments: list[str], parent=None) -> click.Context:
    """Reads the arguments as the command line does, to the last subcommand, and runs nothing."""
    context = command.make_context(name, list(arguments), parent=parent)
    if not isinstance(command, click.Group):
        return context
    rest = [*context._protected_args, *context.args]
    name, child, rest = command.resolve_command(context, rest)
    return parse(child, name, rest, context)


@pytest.mark.parametrize("line", LINES)
def test_every_command_parses(line):
    context = parse(root, "omnifuse", line)
    published = {name for encoder in config.packaged_names("encoders") for name in registry.find("encoder", encoder).published}
    for told in context.params.get("weights") or ():
        name = told.partition("=")[2] or told
        assert name in {"none", "RUN"} | published
    for told in context.params.get("encoders") or ():
        assert told.partition("=")[2] in config.packaged_names("encoders")
    if "method" in context.params and context.info_name == "train":
        assert context.params["method"] in config.packaged_names("methods")
    if context.command_path == "omnifuse preprocess mimic":
        preparations.options("mimic", workspace.Workspace(None, *workspace.check({})), options_of(context), context.params["sets"], None)


def options_of(context: click.Context) -> dict:
    beside = {"ehr", "cxr", "notes", "signals", "out", "as_json", "dry_run", "seed", "sets"}
    return {name: value for name, value in context.params.items() if name not in beside}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_its_yaml_and_says_what_was_not_run(page):
    text = page.read_text()
    for heading in ("## Download", "## Expected counts", "## What was not run here"):
        assert f"\n{heading}\n" in text
    assert commands(page) and page.with_suffix(".yaml").is_file()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_is_accepted(path, tmp_path):
    tree = config.read_yaml(path.read_text(), path.name)
    if "table" in tree:
        assert describe(tree, path.name).modalities
        return
    (tmp_path / workspace.FILE).write_text(path.read_text())
    space = workspace.find(tmp_path)
    assert any(space.settings.values[name] for name in ("ehr", "manifest"))
    preparations.options("mimic", space, {}, (), None)
    named = {key.split(".")[1] for key in space.layers["extract"]}
    assert named <= set(READS)
    chosen = encodings.choose(space, {name: {"reads": READS[name]} for name in named}, (), {}, False)
    assert all(choice.encoder in config.packaged_names("encoders") for choice in chosen.values())


# What the pages may quote: totals that the program itself knows, and sizes that the papers and repositories state.
ROWS = {name: KNOWN_ROWS[key][1] for name, key in {"iii": (MIMIC3, 61_532), "iv": (MIMIC4, 94_458)}.items()}
COUNTS = {
    "mimic-iv": {
        "chartevents of MIMIC-IV 3.1, rows": [ROWS["iv"]["chartevents"]],
        "films of MIMIC-CXR": [377_110],
        "studies of MIMIC-CXR": [227_835],
        "MedFuse, phenotyping, stays": [42_628, 4_802, 11_914],
        "MedFuse, phenotyping, with an AP film": [7_756, 882, 2_166],
        "MedFuse, mortality, stays": [18_845, 2_138, 5_243],
        "MedFuse, mortality, with an AP film of the first 48 h": [4_485, 488, 1_242],
        "MedFuse, mortality, with a film of the whole stay (the fault before)": [4_885, 540, 1_373],
        "MedPatch, mortality, with a radiology report": [16_279, 1_847, 4_500],
        "MedPatch, phenotyping, with a radiology report": [38_497, 4_300, 10_779],
        "MedPatch, phenotyping, with a discharge note": [39_917, 4_471, 11_164],
    },
    "mimic-iii-notes": {
        "CHARTEVENTS, rows": [ROWS["iii"]["chartevents"]],
        "LABEVENTS, rows": [ROWS["iii"]["labevents"]],
        "patients of the benchmark's list": [33_798],
        "of these test": [5_070],
        "benchmark, mortality, train with validation / test": [17_903, 3_236],
        "benchmark, mortality, deaths, train with validation / test": [2_423, 374],
        "benchmark, phenotyping, train with validation / test": [35_621, 6_281],
    },
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_counts_are_pinned_and_have_a_source(page):
    section = page.read_text().partition("## Expected counts")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    rows = [row for row in rows if row[0] != "what" and not row[0].startswith("---")]
    told = {what: [int(number.replace(",", "")) for number in count.split("/")] for what, count, _ in rows}
    assert told == COUNTS.get(page.stem, {})
    assert all(source for _, _, source in rows)


def test_the_rates_and_the_sums_of_mimic_iv_agree():
    text = (FOLDER / "mimic-iv.md").read_text()
    films, rate = sum(COUNTS["mimic-iv"]["MedFuse, phenotyping, with an AP film"]), 2 / (1 / 26.8 + 1 / 28.2)
    assert f"= {films:,} with a film" in text and f"= {rate:.0f} a second" in text
    assert f"second: {films / rate / 60:.0f} minutes." in text and f"all 377,110: {377_110 / rate / 3600:.1f} hours." in text
    assert f"thus {2183 / 150:.0f} reports of 150 pieces" in text


REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">Cough,
  "fever" {number}</AbstractText><AbstractText Label="FINDINGS"/><AbstractText Label="IMPRESSION">Clear.</AbstractText>
</Abstract></Article></MedlineCitation><MeSH>{mesh}<automatic>ignored</automatic></MeSH>{films}</eCitation>
"""
TERMS = (
    ["normal"], ["Cardiomegaly/mild", "Cardiomegaly/borderline"], ["Pleural Effusion/left", "Cardiomegaly"], ["No Indexing"],
    ["Catheters, Indwelling/right"],
)  # fmt: skip


def test_the_lines_of_open_i_make_the_table_that_its_manifest_reads(tmp_path):
    (tmp_path / "ecgen-radiology").mkdir(), (tmp_path / "png").mkdir()
    rng = np.random.default_rng(0)
    for number in range(1, 51):
        mesh = "".join(f"<major>{term}</major>" for term in TERMS[number % 5])
        names = [] if number == 7 else [f"CXR{number}_IM-{number:04d}-{view}001" for view in (1, 2)]
        films = "".join(f'<parentImage id="{name}"><caption>film</caption></parentImage>' for name in names)
        (tmp_path / f"ecgen-radiology/{number}.xml").write_text(REPORT.format(number=number, mesh=mesh, films=films))
        for name in names:
            Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(tmp_path / f"png/{name}.png")
    script = re.search(r"```python\n(.*?)```", (FOLDER / "open-i.md").read_text(), re.DOTALL)[1]
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    tree = config.read_yaml((FOLDER / "open-i.yaml").read_text(), "open-i.yaml")
    cohort = build_cohort(tree, "open-i.yaml", tmp_path, tmp_path / "cohort")
    samples = cohort.table("samples/findings.parquet")
    labels = cohort.meta["tasks"]["findings"]["labels"]
    found = {row["sample_id"]: {name for name, y in zip(labels, row["y"]) if y} for row in samples.iter_rows(named=True)}
    assert found.keys() == {str(number) for number in range(1, 51) if number % 5 != 3}
    assert found["5"] == set() and found["1"] == {"Cardiomegaly"} and found["2"] == {"Cardiomegaly", "Pleural Effusion"}
    assert found["4"] == {"Catheters, Indwelling"}
    lengths = dict(samples.select("sample_id", "cxr_length").iter_rows())
    assert lengths["7"] == 0 and lengths["1"] == 2 and samples["ind_length"].min() == 1
    assert cohort.table("items/ind.parquet")["text"][0].startswith('Cough, "fever"')
