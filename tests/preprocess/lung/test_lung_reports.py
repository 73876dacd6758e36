"""Reports: which may be read, encodings, sections of Chinese and English, marks, length; words and scanners that give the label away."""

from collections import Counter
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from omnifuse.preprocess import splits
from omnifuse.preprocess.lung import leaks, reports
from omnifuse.preprocess.lung.reports import AFTER, BEFORE, UNDATED
from omnifuse.preprocess.schema import ConfigError, InputError

DAY = datetime(2020, 3, 1)


@pytest.mark.parametrize(
    ("report", "pathology", "told"),
    [
        (datetime(2020, 2, 29), DAY, BEFORE),
        (DAY, DAY, AFTER),  # the same day: nothing shows that it was before
        (datetime(2020, 3, 1, 8), datetime(2020, 3, 1, 15), BEFORE),
        (datetime(2020, 3, 1, 15), datetime(2020, 3, 1, 8), AFTER),
        (datetime(2020, 3, 1, 8), DAY, AFTER),
        (datetime(2020, 3, 2), DAY, AFTER),
        (None, DAY, UNDATED),
        (DAY, None, UNDATED),
    ],
)
def test_only_what_is_dated_before_the_pathology_counts(report, pathology, told):
    assert reports.timing(report, pathology) == told


CHINESE = """检查项目：ＰＥＴ／ＣＴ
【现病史】体检发现右肺结节１周。
手术史：无。
三、影像所见： 右肺上叶磨玻璃结节。
诊断意见： 考虑早期肺癌。
诊断依据：形态。手术指征: 有。
病理诊断：浸润性腺癌。
"""
ENGLISH = """CLINICAL HISTORY: nodule.
FINDINGS: Ground glass nodule.

IMPRESSION: Suspicious.
PATHOLOGY: adenocarcinoma in situ
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (CHINESE, ["exam", "history", "surgical_history", "findings", "impression", "basis", "indications", "pathology"]),
        (ENGLISH, ["history", "findings", "impression", "pathology"]),
        ("右肺结节，未见诊断依据。", ["other"]),
        ("前言\n所见:正常", ["other", "findings"]),
        ("", []),
    ],
)
def test_sections_are_found_by_their_headers(text, names):
    import unicodedata

    assert [name for name, _ in reports.split_sections(unicodedata.normalize("NFKC", text))] == names


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (("findings",), "右肺上叶磨玻璃结节。"),
        (("impression", "findings"), "考虑早期肺癌。 右肺上叶磨玻璃结节。"),
        (("exam",), "PET/CT"),
        (("indications",), "有。"),
        (("other",), ""),
    ],
)
def test_sections_are_ordered_and_switched(sections, expected):
    assert reports.prepare(CHINESE, sections, 1748, Counter()) == expected


def test_pathology_is_off_by_default_and_its_removal_counted():
    counts = Counter()
    for text in (CHINESE, ENGLISH):
        told = reports.prepare(text, reports.DEFAULT_SECTIONS, 1748, counts)
        assert "浸润性" not in told and "in situ" not in told
    assert counts["left out pathology"] == 2 and counts["section findings"] == 2


def test_a_long_report_is_cut_and_counted():
    counts = Counter()
    assert len(reports.prepare("结" * 1_000_000, reports.DEFAULT_SECTIONS, 1748, counts)) == 1748
    assert counts[reports.CUT] == 1


@pytest.mark.parametrize("empty", ["", "   \n", "所见：\n", "病理诊断：浸润性腺癌"])
def test_a_report_of_nothing_is_empty(empty):
    assert reports.prepare(empty, reports.DEFAULT_SECTIONS, 1748, Counter()) == ""


def test_gbk_declared_as_utf8_names_the_row_and_the_byte(tmp_path):
    (tmp_path / "r.txt").write_bytes(b"CT:" + "右肺结节".encode("gb18030"))
    assert reports.read_report(tmp_path, "r.txt", "gb18030", "m.csv:7") == "CT:右肺结节"
    assert reports.read_report(tmp_path, "r.txt", "gbk", "m.csv:7") == "CT:右肺结节"
    with pytest.raises(InputError) as caught:
        reports.read_report(tmp_path, "r.txt", "utf-8", "m.csv:7")
    told = str(caught.value)
    assert told.startswith("m.csv:7:report: ") and "byte 3" in told and "--encoding gb18030" in told and "r.txt" not in told


def test_utf8_declared_as_gb18030_is_no_nonsense(tmp_path):
    (tmp_path / "r.txt").write_text("右肺结节", encoding="utf-8")
    with pytest.raises(InputError, match="UTF-8"):
        reports.read_report(tmp_path, "r.txt", "gb18030", "m.csv:7")


def test_unknown_sections_are_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="findings"):
        reports.check_sections(("findngs",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("考虑微浸润腺癌", {"微浸润", "adenocarcinoma"}),
        ("浸润性腺癌，贴壁型", {"浸润性", "贴壁", "adenocarcinoma"}),
        ("原位腺癌", {"原位腺癌"}),
        ("术中冰冻:AIS", {"冰冻", "AIS"}),
        ("右肺MIA可能,IA2期", {"MIA", "IA1-3"}),
        ("minimally invasive adenocarcinoma, pathologically proven", {"invasive", "adenocarcinoma", "pathology"}),
        ("the aisle, media, IA20, hospital", set()),
        ("右肺磨玻璃结节", set()),
    ],
)
def test_words_that_name_the_pathology(text, words):
    assert {told["word"] for told in leaks.words_audit([text])} == words


def cohort(leak: bool, patients: int = 90):
    """Three classes; with `leak`, the report and the maker tell the class."""
    rng = np.random.default_rng(0)
    classes = np.arange(patients) % 3
    shown = classes if leak else rng.permutation(classes)
    ids = [f"p{k:03d}" for k in range(patients)]
    samples = pl.DataFrame({"sample_id": ids, "patient_id": ids, "class": classes}).with_columns(pl.lit(1).alias("ct_length"))
    texts = {name: ("原位腺癌", "微浸润", "浸润性")[k] for name, k in zip(ids, shown)}
    scanners = pl.DataFrame({"sample_id": ids, "ct_maker": [f"maker {k}" for k in shown], "ct_thickness_mm": rng.normal(size=patients)})
    parts = splits.make_parts(samples.select("patient_id", outcome="class")).table
    return {one["baseline"]: one for one in leaks.baselines(samples, texts, scanners, parts, 3)}


def test_baselines_find_what_leaks_and_nothing_where_nothing_does():
    leaking, clean = cohort(True), cohort(False)
    for name in ("words", "scanner"):
        assert leaking[name]["auroc"] > 0.99 and leaking[name]["folds"] == 5
        assert 0.3 < clean[name]["auroc"] < 0.7
    assert leaking["presence"]["auroc"] is None and leaking["presence"]["reason"] == "nothing in it varies"


def test_baselines_never_score_a_test_patient(monkeypatch):
    seen = []
    monkeypatch.setattr(leaks, "_score", lambda features, y, fit, score: seen.append((fit, score)))
    samples = pl.DataFrame({"sample_id": [f"p{k}" for k in range(60)]}).with_columns(
        patient_id="sample_id", **{"class": pl.int_range(60) % 2, "ct_length": pl.int_range(60) % 3}
    )
    parts = splits.make_parts(samples.select("patient_id", outcome="class")).table
    leaks.baselines(samples, {}, samples.select("sample_id", ct_maker=pl.lit("a")), parts, 2)
    for fold, (fit, score) in enumerate(seen):
        of_fold = dict(parts.filter(pl.col("fold") == fold).select("patient_id", "part").iter_rows())
        assert {of_fold[name] for name in samples["patient_id"].filter(pl.Series(fit))} == {"train"}
        assert {of_fold[name] for name in samples["patient_id"].filter(pl.Series(score))} == {"val", "calib", "probe"}
    assert len(seen) == 5


def test_too_few_samples_give_a_reason_and_no_number():
    told = cohort(True, patients=15)
    assert all(one["auroc"] is None and one["reason"] for one in told.values())
