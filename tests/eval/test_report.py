"""The report on disk: what it holds, that it needs nothing else, that nothing from outside is run, and that no patient is in it."""

import csv
import html.parser
import io
import json
import re
import stat

import polars as pl
import pytest
import simulated

from omnifuse.eval import escaping, page, wording
from omnifuse.eval.comparisons import compare
from omnifuse.eval.evaluation import evaluate
from omnifuse.eval.report import build_report, write_report
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, Task

SMALL = {"resamples": 40}
PAYLOADS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>x</script>", "javascript:alert(1)", "=cmd|'/c calc'!A0",
    "@SUM(A1)", "+1+1", "-2+3", "\x1b[31mred\x1b[0m", "a\rb\nc", "\u202egnp.exe", "![x](https://evil.example/p.png)", "$\\frac{1}{0$",
    "_hidden", "{{ 7*7 }}{% raw %}", "]]>&amp;<svg onload=alert(1)>", "--><b>x",
)  # fmt: skip


class Page(html.parser.HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module", params=[simulated.BINARY, simulated.MULTILABEL, simulated.MULTICLASS], ids=lambda task: task.kind)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.kind)
    cohort, runs = simulated.write(folder, request.param, patients=150)
    report, results, compared = build_report(folder / "report", runs, cohort, commands=["omnifuse eval"], **SMALL)
    return report, results, compared


def test_the_artefact_is_whole(made):
    report, results, compared = made
    report.verify()
    assert {"metrics.json", "metrics.csv", "comparisons.csv", "report.html", "figures/roc.png", "figures/models.png"} <= set(report.files)
    told = json.loads(report.file("metrics.json").read_text())
    assert told == json.loads(json.dumps({**results, "comparisons": compared}))
    for name in report.files:
        path = report.file(name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if name.endswith(".png"):
            assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert report.meta["judged"] == sorted(report.meta["judged"]) and len(report.meta["judged"]) == 20


def test_the_page_needs_nothing_else_and_runs_nothing(made):
    text = made[0].file("report.html").read_text()
    seen = Page(text)
    tags = {tag for tag, _ in seen.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video", "foreignobject", "image"}
    policy = next(attrs["content"] for tag, attrs in seen.elements if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script" not in policy
    for tag, attrs in seen.elements:
        assert not [name for name in attrs if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            assert (attrs.get(name) or "#").startswith("#"), (tag, attrs)
        assert "url(" not in (attrs.get("style") or "").replace("url(#", "")
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    assert "url(" not in style and "@import" not in style
    anchors = {attrs["href"][1:] for tag, attrs in seen.elements if tag == "a"}
    assert anchors <= {attrs.get("id") for _, attrs in seen.elements}
    ids = [attrs["id"] for _, attrs in seen.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_no_patient_sample_or_date_leaves_the_tables(made):
    report = made[0]
    for name in report.files:
        held = report.file(name).read_bytes()
        for canary in (rb"canary-", rb"sample-0", rb"2150-0", rb"(?<![\d.])3000\d{4}(?!\d)", rb"(?<![\d.])2000\d{4}(?!\d)"):
            assert not re.search(canary, held), (name, canary)


def test_the_page_tells_the_numbers_of_the_results(made):
    report, results, compared = made
    text = Page(report.file("report.html").read_text()).text
    for model in results["models"]:
        auroc = model["mean"][0]["metrics"]["auroc"]
        assert f"{auroc['value']:.3f}" in text and f"{auroc['low']:.3f}–{auroc['high']:.3f}" in text
    for pair in compared["pairs"]:
        assert wording.signed(pair["difference"]) in text and pair["verdict"] in text
    headline = next(model for model in results["models"] if model["name"] == report.meta["headline"])
    fusions = [model for model in results["models"] if "+" in model["modalities"]]
    assert headline["validation_auroc"] == max(model["validation_auroc"] for model in fusions)
    assert f"{headline['name']} reached an AUROC of" in text and "The best single modality is unimodal (ehr)" in text
    for part in ("at least 48 hours", "Heart rate", "gcs-none", "668,862", "simulated 1", "omnifuse eval", "120,321", "7, 8, 9, 10, 11"):
        assert part in text


def test_every_label_stands_in_the_table(made):
    report, results, _ = made
    seen = Page(report.file("report.html").read_text())
    labels = [row["label"] for row in results["models"][0]["mean"]]
    if len(labels) > 1:
        assert all(label in seen.text for label in labels if label not in ("macro", "micro", "all classes"))
        assert "figures/labels.png" in report.files


def test_csv_holds_what_json_holds(made):
    report, results, compared = made
    rows = pl.read_csv(report.file("metrics.csv").read_bytes(), infer_schema=False)
    count = sum(
        len(row["metrics"]) for model in results["models"] for cell in [model["mean"], *(c["rows"] for c in model["cells"])] for row in cell
    )
    assert len(rows) == count
    model = results["models"][-1]
    entry = rows.filter(
        (pl.col("method") == model["method"])
        & (pl.col("fold") == "mean")
        & (pl.col("metric") == "auroc")
        & (pl.col("label") == results["row"])
    )
    assert float(entry["value"][0]) == model["mean"][0]["metrics"]["auroc"]["value"]
    pairs = list(csv.DictReader(io.StringIO(report.file("comparisons.csv").read_text())))
    assert [float(pair["difference"]) for pair in pairs] == [pair["difference"] for pair in compared["pairs"]]
    assert [pair["verdict"] for pair in pairs] == [pair["verdict"] for pair in compared["pairs"]]


def test_the_same_runs_give_the_same_bytes(tmp_path):
    cohort, runs = simulated.write(tmp_path, patients=80, models=simulated.MODELS[::3])
    first, _, _ = build_report(tmp_path / "one", runs, cohort, **SMALL)
    second, _, _ = build_report(tmp_path / "two", list(reversed(runs)), cohort, **SMALL)
    assert first.fingerprint == second.fingerprint
    for name in first.files:
        assert first.file(name).read_bytes() == second.file(name).read_bytes(), name


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A report in which every name that comes from outside is an attack."""
    folder = tmp_path_factory.mktemp("attacked")
    task = Task("task <script>", "multilabel", PAYLOADS)
    models = (("=cmd <img src=x onerror=alert(1)>", "<b>ehr</b>", 0.8), ('"><script>alert(2)</script>', "<b>ehr</b>+$cxr", 1.2))
    world = simulated.World(task, patients=80)
    frame = simulated.predictions(task, models, world=world)
    names = " ".join(PAYLOADS)
    cohort, runs = simulated.write(folder, task, patients=80, names=names)
    evaluation = evaluate(frame, task=task, **SMALL)
    compared = compare(evaluation, train_patients=simulated.trained(world))
    report, _, _ = write_report(folder / "report", evaluation, compared, cohort=cohort, runs=runs, commands=[names])
    return report


def test_names_from_outside_are_text(attacked):
    text = attacked.file("report.html").read_text()
    seen = Page(text)
    tags = {tag for tag, _ in seen.elements}
    assert not tags & {"script", "img", "b2"} and not any("onerror" in attrs or "onload" in attrs for _, attrs in seen.elements)
    assert text.count("<svg") == sum(tag == "svg" for tag, _ in seen.elements)
    assert all(set(attrs) <= {"viewbox", "xmlns:xlink", "role", "aria-label"} for tag, attrs in seen.elements if tag == "svg")
    assert "<script>alert(1)</script>" in seen.text  # shown as what it is
    assert "{{ 7*7 }}" in seen.text
    assert text.count("</style>") == 1
    for character in "\x1b\r\u202e":
        assert character not in text


def test_csv_cells_are_no_formulas(attacked):
    for name in ("metrics.csv", "comparisons.csv"):
        for row in csv.reader(io.StringIO(attacked.file(name).read_text())):
            for cell in row:
                if not re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell):
                    assert not cell.startswith(("=", "+", "-", "@", "\t")), cell
                assert "\x1b" not in cell and "\r" not in cell
    labels = {row["label"] for row in csv.DictReader(io.StringIO(attacked.file("metrics.csv").read_text()))}
    assert "'=cmd|'/c calc'!A0" in labels and "'-2+3" in labels


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("a\r\nb\tc", "a b c"),
        ("x\u202ey", "x\ufffdy"),
        ("a" * 300, "a" * 199 + "\u2026"),
        ("死亡 é", "死亡 é"),
        (7, "7"),
    ],
)
def test_plain(text, expected):
    assert escaping.plain(text) == expected


@pytest.mark.parametrize(
    "value, expected",
    [
        ("=1+1", "'=1+1"),
        (" =1", "'=1"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("@x", "'@x"),
        (-0.25, -0.25),
        (None, ""),
        (True, True),
        ("a=b", "a=b"),
    ],
)
def test_csv_cell(value, expected):
    assert escaping.csv_cell(value) == expected


def test_small_cells_stay_hidden_in_every_file(tmp_path):
    cohort, runs = simulated.write(tmp_path, simulated.MULTILABEL, patients=110, models=simulated.MODELS[::3])
    report, results, _ = build_report(tmp_path / "report", runs, cohort, min_cell=11, **SMALL)
    small = {row["label"] for row in results["models"][0]["mean"] if row.get("suppressed")}
    assert small  # the case is meant to have some
    for row in csv.DictReader(io.StringIO(report.file("metrics.csv").read_text())):
        assert row["positives"] in ("", "0") or int(row["positives"]) >= 11
        if row["label"] in small:
            assert row["value"] == "" and "not shown" in row["reason"]
    text = Page(report.file("report.html").read_text()).text
    assert "counts from 1 to 10 are hidden" in text and "under 11" in text


def test_a_report_of_another_tools_predictions(tmp_path):
    frame = simulated.predictions().drop("modalities")
    frame = frame.filter(pl.col("run_id").str.contains("omnifuse|concat"))
    evaluation = evaluate(frame, task=simulated.BINARY, **SMALL)
    compared = compare(evaluation, train_patients=simulated.trained(simulated.World(simulated.BINARY)))
    report, _, _ = write_report(tmp_path / "report", evaluation, compared)
    text = Page(report.file("report.html").read_text()).text
    assert "Death in hospital, from all inputs" in text and "The patients" not in text


def test_a_report_without_a_figure_to_give(tmp_path):
    cohort, runs = simulated.write(
        tmp_path, Task("mortality", "binary", ("mortality",)), patients=40, prevalence=0.0, models=simulated.MODELS[:1]
    )
    report, results, _ = build_report(tmp_path / "report", runs, cohort, **SMALL)
    assert results["models"][0]["mean"][0]["metrics"]["auroc"] == {"value": None, "reason": "no positives"}
    text = Page(report.file("report.html").read_text()).text
    assert "no AUROC can be given: no positives" in text and "There are too few cases for a figure" in text


def test_what_does_not_belong_together_is_refused(tmp_path):
    cohort, runs = simulated.write(tmp_path, patients=40)
    other, theirs = simulated.write(tmp_path / "other", patients=44)
    with pytest.raises(ConfigError, match="differ in their cohort"):
        build_report(tmp_path / "report", runs + theirs, cohort)
    with pytest.raises(ArtefactError, match="another cohort"):
        build_report(tmp_path / "report", runs, other)
    with pytest.raises(ConfigError, match="no runs"):
        build_report(tmp_path / "report", [], cohort)
    with pytest.raises(ConfigError, match="no run of the method omnifus"):
        build_report(tmp_path / "report", runs, cohort, method="omnifus", **SMALL)
    assert not (tmp_path / "report").exists()
    with pytest.raises(ArtefactError):
        store.open(tmp_path / "report", "report")


def test_the_headline_is_chosen_by_validation_not_by_test():
    frame = simulated.predictions()
    turned = frame.with_columns(
        y_score=pl.when((pl.col("method") == "omnifuse") & (pl.col("part") == "val")).then(1 - pl.col("y_score")).otherwise("y_score")
    )
    chosen = [page.choose_headline(evaluate(table, task=simulated.BINARY, **SMALL)).method for table in (frame, turned)]
    assert chosen == ["omnifuse", "concat"]


PAIR = {
    "a": "f",
    "b": "s",
    "b_value": 0.8,
    "difference": 0.01,
    "low": -0.02,
    "high": 0.04,
    "test": "corrected t",
    "left_out": 0,
    "samples": 9,
}


@pytest.mark.parametrize(
    "change, told, untold",
    [
        (
            {"verdict": "cannot be told", "detectable": 0.06, "chances": {"helps": 0.6, "equivalent": 0.3, "harms": 0.1}},
            "true difference of 0.060",
            "left out",
        ),
        (
            {"verdict": "helps", "detectable": 0.06, "chances": {"helps": 0.999, "equivalent": 0.001, "harms": 0.0}},
            ">99%",
            "true difference of",
        ),
        ({"verdict": "cannot be told", "left_out": 1234}, "1,234 are left out", "true difference of"),
        ({"difference": None, "reason": "no fold"}, "cannot be compared: no fold", "0.8"),
    ],
)
def test_the_words_of_a_comparison(change, told, untold):
    text = " ".join(wording.fusion_verdict({**PAIR, **change}, 0.005))
    assert told in text and untold not in text


@pytest.mark.parametrize(
    "auroc, told",
    [
        ({"value": 0.62, "low": 0.48, "high": 0.75}, "It cannot be told from chance"),
        ({"value": 0.84, "low": 0.8, "high": 0.88}, "AUROC 0.84: right for 84 of 100 pairs of patients"),
        ({"value": None, "reason": "no positives"}, "There are too few cases for a figure"),
        ({"value": 0.9, "low": None, "high": None}, "It cannot be told from chance"),
    ],
)
def test_the_summary_says_no_more_than_the_interval(auroc, told):
    assert wording.summary({"metrics": {"auroc": auroc}}) == told
