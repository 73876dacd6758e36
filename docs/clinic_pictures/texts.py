"""The texts of the page: one content in three families of templates, what else befalls a sentence, and a Chinese report with translation.

Every text is synthetic, so that it may be shown. The block is Markdown and stands in docs/clinic.md itself.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.report_text import Text, copy_report, write_report
from omnifuse.preprocess.clinic.statements import GRADES, NO, POSSIBLE, YES
from omnifuse.preprocess.clinic.worldfile import read_world

FAMILIES = ("first (internal)", "second (internal)", "third (external site alone)")
MODERATE, NONE, MILD = GRADES - 2, 0, 1
TOLD = np.array([YES, YES, MODERATE])  # effusion; what is only in reports; congestion
KINDS = (  # name, statements, changes of the knobs, cut
    ("negated", np.array([NO, NO, NONE]), {}, False),
    ("possible", np.array([POSSIBLE, POSSIBLE, MILD]), {}, False),
    ("misspelt (ten times the usual share)", TOLD, {"typos": 0.1}, False),
    ("cut off: states nothing", TOLD, {}, True),
)
ENGLISH = {
    "检查所见": "Findings",
    "诊断意见": "Impression",
    "右肺上叶": "right upper lobe",
    "右肺下叶": "right lower lobe",
    "左肺上叶": "left upper lobe",
    "左肺下叶": "left lower lobe",
    "见一结节": "a nodule is seen",
    "结节": "nodule",
    "请结合临床": "please correlate clinically",
    "呈纯磨玻璃密度": "of pure ground-glass density",
    "密度浅淡": "faint in density",
    "未见实性成分": "no solid component",
    "呈混合磨玻璃密度": "of mixed ground-glass density",
    "内见部分实性成分": "with a part-solid component inside",
    "密度不均": "uneven in density",
    "磨玻璃影内见实性结节": "a solid nodule within ground glass",
    "呈实性密度": "of solid density",
    "密度较高": "rather dense",
    "未见磨玻璃成分": "no ground-glass component",
    "边缘见毛刺及分叶": "spiculation and lobulation of the margin",
    "可见分叶征": "lobulation is seen",
    "边缘毛糙": "ragged margin",
    "边缘光整": "smooth margin",
    "未见毛刺及分叶": "no spiculation or lobulation",
    "无明显分叶征": "no clear lobulation",
    "边缘清晰": "sharp margin",
    "纵隔内未见肿大淋巴结": "no enlarged lymph nodes in the mediastinum",
    "双侧胸腔未见积液": "no effusion on either side",
    "气管及支气管通畅": "trachea and bronchi are patent",
    "心影大小正常": "heart of normal size",
    "既往史": "history",
    "高血压": "hypertension",
    "建议随访": "follow-up is advised",
    "周围见片状炎症影": "patchy inflammation around it",
    "邻近肺组织可见炎性渗出": "inflammatory exudate next to it",
    "周围未见片状炎症影": "no patchy inflammation around it",
    "邻近肺组织未见炎性渗出": "no inflammatory exudate next to it",
}
PAUSES = {"，": ", ", "。": ". ", "：": ": "}


@dataclass(frozen=True)
class Texts:
    families: list[Text]
    kinds: list[tuple[str, str]]
    chinese: str
    english: str


def collect(raw: Path, truth: Path, seed: int = 0) -> Texts:
    """`raw` and `truth` are of the subtyping setting: the Chinese report is read from its files."""
    knobs = dataclasses.replace(read_world("default").report, typos=0.0)
    families = [_report(knobs, TOLD, family, seed) for family in range(len(FAMILIES))]
    kinds = []
    for name, told, changes, cut in KINDS:
        kinds.append((name, _body(_report(dataclasses.replace(knobs, **changes), told, 0, seed, cut))))
    copied = copy_report(_report(knobs, TOLD, 0, seed), _report(knobs, np.array([NO, NO, NONE]), 0, seed + 1))
    kinds.insert(2, ("copied: the exam is new, the text is the last one's, whatever there is to see", _body(copied)))
    return Texts(families, kinds, *_chinese(raw, truth))


def _report(knobs, told: np.ndarray, family: int, seed: int, cut: bool = False) -> Text:
    generator = stream(seed, 24, "report of the page")
    return write_report(knobs, told, cut=cut, mark=False, family=family, upright=False, male=False, noise=1.0, generator=generator)


def _body(text: Text) -> str:
    return text.findings or text.impression


def _marked(body: str, usual: str) -> str:
    """The sentences in bold that the usual text does not have."""
    known = set(re.findall(r"[^.]+\.", usual))
    return re.sub(r"([^.\s][^.]*\.?)", lambda found: found[1] if f" {found[1]}" in known or found[1] in known else f"**{found[1]}**", body)


def _chinese(raw: Path, truth: Path) -> tuple[str, str]:
    """The first report of a part-solid lesion whose margin is told, free of slips, and its translation; else the first of any lesion."""
    lesions = pl.read_parquet(truth / "lesions.parquet").filter("present_rep")
    wanted = lesions.filter((pl.col("density") == 1) & (pl.col("spiculation") == 0))
    for patient in (*wanted["patient_id"], *lesions["patient_id"]):
        report = (raw / f"reports/{patient}.txt").read_text(encoding="utf-8").strip()
        english = translate(report)
        if english:
            return report, english
    raise ValueError("no report of this clinic can be translated: docs/clinic_pictures/texts.py lacks its sentences")


def translate(report: str) -> str | None:
    """Clause by clause; None where one is not known."""
    lines = []
    for line in report.splitlines():
        english = ""
        for clause, pause in re.findall(r"([^，。：]+)([，。：]?)", line):
            known = _clause(clause)
            if known is None:
                return None
            opens = not english or english.endswith((". ", ": "))
            english += (known[0].upper() + known[1:] if opens else known) + PAUSES.get(pause, "")
        lines.append(english.strip())
    return "\n".join(lines)


def _clause(clause: str) -> str | None:
    if clause in ENGLISH:
        return ENGLISH[clause]
    place, rest = clause[:4], clause[4:]  # a lobe and what is seen in it
    if place not in ENGLISH or rest not in ENGLISH:
        return None
    return f"in the {ENGLISH[place]} {ENGLISH[rest]}" if rest.startswith("见") else f"{ENGLISH[place]} {ENGLISH[rest]}"


def as_markdown(texts: Texts) -> str:
    rows = [f"| | {' | '.join(FAMILIES)} |", "|---|---|---|---|"]
    for section in ("indication", "findings", "impression"):
        rows.append(f"| {section.upper()} | " + " | ".join(getattr(text, section) for text in texts.families) + " |")
    rows += ["", "The first family again, of another content or with another fate; in bold what differs from its findings above:", ""]
    rows += ["| | the text |", "|---|---|"]
    usual = _body(texts.families[0])
    rows += [f"| {name} | {_marked(body, usual)} |" for name, body in texts.kinds]
    rows += ["", "A report of the subtyping setting, and what it says:", "", "| | |", "|---|---|"]
    rows += [f"| {chinese} | {english} |" for chinese, english in zip(texts.chinese.splitlines(), texts.english.splitlines())]
    return "\n".join(rows) + "\n"
