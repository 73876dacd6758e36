"""The page of the clinic: its pictures are there and made anew from the same numbers, and what it names exists."""

import dataclasses
import functools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))

import make_clinic  # noqa: E402
from clinic_pictures import films, information, missingness, texts, worlds  # noqa: E402

from omnifuse.preprocess.clinic import lung_truth  # noqa: E402
from omnifuse.preprocess.clinic.world import World  # noqa: E402

PAGE = (ROOT / "docs/clinic.md").read_text(encoding="utf-8")
PICTURES = {"films", "series", "missingness", "information", "slices", "worlds"}


def test_every_picture_is_named_and_every_named_one_exists():
    named = set(re.findall(r"!\[[^\]]+\]\(clinic/(\w+)\.png\)", PAGE))
    assert named == {path.stem for path in (ROOT / "docs/clinic").iterdir()} == PICTURES


def test_every_block_of_knobs_is_explained():
    table = PAGE[PAGE.index("| block | says |") : PAGE.index("An unknown knob")]
    explained = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")}
    assert explained == {field.name for field in dataclasses.fields(World)} - {"name"}


def test_every_script_and_link_of_the_page_exists():
    scripts = re.findall(r"\b((?:benchmarks|docs|preprocess)/[\w/]+\.\w+)", PAGE)
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in PAGE.splitlines() if line.startswith("#")}
    assert {"docs/make_clinic.py", "benchmarks/clinic_realism.py"} <= set(scripts)
    assert not [name for name in scripts if not (ROOT / name).exists()]
    assert not [name for name in re.findall(r"\]\(#([\w-]+)\)", PAGE) if name not in headings]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Twice the numbers of all pictures, from clinics made anew; the package's worlds are read once, and few lesions of nobody drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "collect", functools.cache(worlds.collect))
        patch.setattr(lung_truth, "DESIGN", 500)
        return [make_clinic.collect(tmp_path_factory.mktemp(name), patients=50, lesions=10) for name in ("once", "again")]


def differences(one, other, path=""):
    """Places where two nested structures of dataclasses, dicts, lists and arrays differ."""
    if dataclasses.is_dataclass(one):
        one, other = vars(one), vars(other)
    if isinstance(one, dict):
        return [place for key in one.keys() | other.keys() for place in differences(one.get(key), other.get(key), f"{path}/{key}")]
    if isinstance(one, (list, tuple)):
        pairs = [place for i, (a, b) in enumerate(zip(one, other)) for place in differences(a, b, f"{path}/{i}")]
        return pairs + ([path] if len(one) != len(other) else [])
    numbers = np.asarray(one).dtype.kind == "f"
    return [] if np.array_equal(one, other, equal_nan=numbers) else [path]


def test_the_same_call_draws_from_the_same_numbers(shown):
    assert differences(*shown) == []
    assert differences({"a": [np.zeros(2)]}, {"a": [np.ones(2)]}) == ["/a/0"], "the comparison sees a difference"


def test_pictures_are_drawn_and_small(shown, tmp_path):
    make_clinic.draw(shown[0], tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == PICTURES
    for path in [*tmp_path.iterdir(), *(ROOT / "docs/clinic").iterdir()]:
        with Image.open(path) as image:
            assert 900 < image.width < 1400 and 600 < image.height < 1600, path.name
        assert path.stat().st_size < 160_000, path.name


def test_the_page_shows_the_texts_that_the_clinic_writes_today(shown):
    block = texts.as_markdown(shown[0]["texts"])
    english = block[: block.index("A report of the subtyping setting")]
    assert english in PAGE
    again = make_clinic.with_texts(make_clinic.with_texts(PAGE, block), block)
    assert again.count(block) == 1 and again.endswith(PAGE[PAGE.index(make_clinic.END) :])


@pytest.mark.parametrize("name, told, other", [
    ("Heart large", lambda grey: grey[60:66, 20:76].mean(), "Heart small"),  # more of the row across the heart is bright
    ("Much texture", lambda grey: np.abs(np.diff(grey[20:40, 15:35])).mean(), "Little texture"),
    ("Large effusion", lambda grey: grey[62:72, 14:80].mean(), "The usual film"),
    ("Poor quality", lambda grey: np.abs(np.diff(grey[85:95])).mean(), "The usual film"),
    ("Spurious mark", lambda grey: grey[3:8, 3:8].mean(), "The usual film"),
])  # fmt: skip
def test_films_show_what_their_titles_say(shown, name, told, other):
    drawn = {film.title: film.pixels.astype(float) for film in shown[0]["films"][0]}
    assert told(drawn[name]) > told(drawn[other]) + 1


def test_extent_of_the_texture_is_told_as_drawn():
    assert films.extent(0.8) == 0.5 and films.extent(3.0) > 0.9 > 0.1 > films.extent(-1.5)


@pytest.mark.parametrize("yes, count, low, high", [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (100, 100, 0.9630, 1.0)])
def test_intervals_are_those_of_wilson(yes, count, low, high):
    rate = missingness.wilson(yes, count)
    assert (rate.share, rate.count) == (yes / count, count)
    assert rate.low == pytest.approx(low, abs=1e-4) and rate.high == pytest.approx(high, abs=1e-4)


def test_patterns_add_up_and_no_film_lacks_its_report(shown):
    patterns = shown[0]["missingness"].patterns
    assert sum(rate.share for _, rate in patterns) == pytest.approx(1)
    assert all(rate.share == 0 for (cxr, rep, _), rate in patterns if cxr and not rep)


@pytest.mark.parametrize("p, bits", [([0.0, 1.0], 1.0), ([0.5, 0.5], 0.0), ([0.25, 0.75], 1 - 0.8113)])
def test_bits_are_mutual_information(p, bits):
    found = information._bits(np.array(p)[:, None], np.ones((1, 2)))
    assert found[0, 0] == pytest.approx(bits, abs=1e-4)


def test_ceilings_of_more_modalities_tell_more(shown):
    told = shown[0]["information"]
    assert told.bits["ehr_cxr_rep_sig"].value > max(told.bits[name].value for name in information.MODALITIES) > 0
    assert told.entropy > told.latent > told.bits["ehr_cxr_rep_sig"].value
    assert sum(told.designed.values()) == pytest.approx(1) == sum(one.value for one in told.drawn.values())


def test_worlds_of_files_and_of_sets_are_shown(shown, tmp_path):
    (tmp_path / "mine.yaml").write_text("base: default\noutcome: {prevalence: 0.2}\n")
    (tmp_path / "default.yaml").write_text("base: easy\n")
    found = worlds.collect(tmp_path)
    assert found.names == ["default", "mine"]
    deaths = [knob for _, knob in found.columns].index("deaths %")
    assert found.values[:, deaths].tolist() == [13, 20]
    shipped = shown[0]["worlds"]
    assert shipped.names[0] == "default" and np.isfinite(shipped.values).all()
    sets = [path.stem for path in worlds.WORLDS.glob("set*.yaml")]
    assert {name.split("/")[0] for name in shipped.names if "/" in name} == set(sets)


@pytest.mark.parametrize("chinese, english", [
    ("检查所见：右肺上叶见一结节，呈实性密度。", "Findings: In the right upper lobe a nodule is seen, of solid density."),
    ("诊断意见：左肺下叶结节，请结合临床。", "Impression: Left lower lobe nodule, please correlate clinically."),
    ("检查所见：脾大。", None),  # a sentence that nobody translated is not passed over
])  # fmt: skip
def test_chinese_reports_are_translated_clause_by_clause(chinese, english):
    assert texts.translate(chinese) == english


def test_what_differs_from_the_usual_text_is_bold():
    assert texts._marked("The heart. No fluid. Tall", "The heart. Some fluid.") == "The heart. **No fluid.** **Tall**"
