"""The archive of films in the layout of MIMIC-CXR-JPG 2.0.0, its report tree that of MIMIC-CXR.

    cxr/mimic-cxr-2.0.0-{metadata,split,chexpert}.csv.gz
    cxr/files/p10/p10000032/s50414267.txt          the report
    cxr/files/p10/p10000032/s50414267/DICOM.jpg    a grey film

The labels are read off the statements, as CheXpert's labeller would from the text, so that they know no more than the report.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from PIL import Image

from omnifuse.preprocess.clinic.film import FilmTokens, draw_body, draw_film
from omnifuse.preprocess.clinic.hospital import scramble
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.observe import CXR, FLUID, Exams, Seen, easy_first
from omnifuse.preprocess.clinic.report_text import Text, as_study
from omnifuse.preprocess.clinic.statements import EFFUSION, GRADE, NO, OWN, POSSIBLE, SILENT_GRADE, YES
from omnifuse.preprocess.clinic.world import World
from omnifuse.preprocess.store import Builder

METADATA, SPLIT, CHEXPERT = (f"cxr/mimic-cxr-2.0.0-{name}" for name in ("metadata", "split", "chexpert"))
LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity",
    "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
STUDIES_A_STAY, STAYS = 32, 16
VIEWS = {"AP": "antero-posterior", "PA": "postero-anterior", "LATERAL": "lateral"}
QUALITY = 92  # of the JPEG


@dataclass
class FilmArchive:
    """Writes the studies of stays as they come, and collects the rows of the three tables."""

    world: World
    seed: int
    builder: Builder
    rows: dict[str, list[tuple]] = field(default_factory=lambda: {METADATA: [], SPLIT: [], CHEXPERT: []})

    def add(self, patient: int, number: int, subject: int, seen: Seen, times: list[datetime], texts: list[Text]) -> int:
        """The studies of one stay; returns how many films were written."""
        if not seen.exams.archived:
            return 0
        written = 0
        for j, (time, text) in enumerate(zip(times, texts)):
            study = study_id(patient, number, j)
            folder = f"cxr/files/p{str(subject)[:2]}/p{subject}"
            self.builder.path(f"{folder}/s{study}.txt").write_text(as_study(text), encoding="utf-8")
            self.rows[CHEXPERT].append((subject, study, *labels(seen.exams, j)))
            for view in ("PA", "LATERAL") if seen.exams.upright[j] else ("AP",):
                self._film(patient, number, subject, study, j, view, seen, time, folder)
                written += 1
        return written

    def _film(self, patient, number, subject, study, j, view, seen: Seen, time: datetime, folder: str) -> None:
        body = draw_body(stream(self.seed, patient, "film body"), generator := stream(self.seed, patient, f"film {j} {view}", number))
        size = self.world.film.size
        dicom = "-".join(f"{part:08x}" for part in generator.integers(0, 2**32, 5))
        pixels = draw_film(film_tokens(self.world, seen, j), body, generator, size, view == "LATERAL")
        path = self.builder.path(f"{folder}/s{study}/{dicom}.jpg")
        Image.fromarray(pixels).save(path, format="JPEG", quality=QUALITY)
        described = "CHEST (PORTABLE AP)" if view == "AP" else "CHEST (PA AND LAT)"
        clock = float(time.strftime("%H%M%S")) + int(generator.integers(0, 1000)) / 1000
        self.rows[METADATA].append(
            (dicom, subject, study, described, view, size, size, int(time.strftime("%Y%m%d")), clock, described, VIEWS[view],
             "Erect" if view != "AP" else None)
        )  # fmt: skip
        self.rows[SPLIT].append((dicom, study, subject, official_split(patient)))


def film_tokens(world: World, seen: Seen, j: int) -> FilmTokens:
    """Which token each carrier shows."""
    easy, hard = easy_first("film", world.film.unique_in)
    tokens, exams = seen.exams.film[j], seen.exams
    return FilmTokens(
        heart=tokens[easy], texture=tokens[hard], fluid=tokens[FLUID], noise=seen.noise[CXR], blurred=bool(exams.blurred[j]),
        mark=bool(seen.marks[CXR]),
    )  # fmt: skip


def study_id(patient: int, number: int, j: int) -> int:
    """One to one; eight digits for the first 19,500 patients, nine beyond."""
    key = (patient * STAYS + number) * STUDIES_A_STAY + j
    return scramble(key % 9_999_991, 50_000_000 + 10_000_000 * (key // 9_999_991))


def official_split(patient: int) -> str:
    """About the shares of MIMIC-CXR's own split; no label or site is behind it."""
    place = patient * 7_919 % 1000
    return "test" if place < 10 else "validate" if place < 18 else "train"


def labels(exams: Exams, j: int) -> list[float | None]:
    """1, 0, -1 (possible) or nothing, in the order of LABELS."""
    said = {YES: 1.0, NO: 0.0, POSSIBLE: -1.0}
    effusion, own, grade = (exams.statements[j][k] for k in (EFFUSION, OWN, GRADE))
    found: dict[str, float | None] = {"Pleural Effusion": said.get(int(effusion)), "Lung Lesion": said.get(int(own))}
    found["Edema"] = None if grade == SILENT_GRADE else float(grade > 0)
    found["No Finding"] = None if any(value for value in found.values()) else 1.0
    return [found.get(name) for name in LABELS]


def last_ap(world: World, seen: Seen) -> int | None:
    """The exam whose film a method takes that reads the last AP film of the window."""
    exams = seen.exams
    inside = (exams.minute >= 0) & (exams.minute < world.stays.design_hours * 60) & ~exams.upright
    return int(np.flatnonzero(inside)[-1]) if exams.archived and inside.any() else None
