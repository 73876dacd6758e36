"""A world whose best possible score is known in closed form, its truth on disk in the layout of the clinic, and methods of known reach.

    clinic = simulated_truth.Clinic(patients=400)
    clinic.write(folder)                                     # the truth: ceilings.parquet, stays.parquet ...
    clinic.predictions((("unimodal", "ehr", 1.0), ("concat", "ehr+cxr", 0.5)))

Given the outcome the modalities are independent normal, x_m ~ N(d_m y, 1), so that P(y | a set) is a product. A method of reach k sees
x_m + sqrt(1 / k - 1) noise: its AUROC is Phi(sqrt(k sum d^2 / 2)), at reach 1 that of the oracle.
"""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.eval.ceilings import CLINIC, LUNG
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import Task

MORTALITY = Task("mortality", "binary", ("mortality",), {"window_hours": 48})
SUBTYPING = Task("subtyping", "multiclass", ("L1", "L2", "L3"), {"classes": "3"})
SIGNAL = {"ehr": 0.9, "cxr": 0.7, "rep": 0.5}
MODELS = (("unimodal", "ehr", 1.0), ("unimodal", "cxr", 1.0), ("concat", "ehr+cxr", 0.6))
FOLDS = 5


class Clinic:
    """Patients with one stay each; cxr is there in six of ten."""

    def __init__(self, patients: int = 400, prevalence: float = 0.3, seed: int = 0):
        random = np.random.default_rng([seed, 3])
        self.patients, self.prevalence, self.seed = patients, prevalence, seed
        self.y = (random.random(patients) < prevalence).astype(float)
        self.x = {name: signal * self.y + random.normal(size=patients) for name, signal in SIGNAL.items()}
        self.present = {name: random.random(patients) < (0.6 if name == "cxr" else 1.0) for name in SIGNAL}
        self.noise = {name: np.exp(0.3 * random.normal(size=patients)) for name in ("cxr", "rep")}
        self.fold = random.permutation(np.arange(patients) % FOLDS)
        self.stay = 30_000_000 + random.permutation(patients)
        self.patient = 10_000_000 + np.arange(patients)

    def odds(self, modalities, reach: float = 1.0, key: int = 0) -> np.ndarray:
        """Log odds of the outcome, by what a method of this reach sees."""
        random = np.random.default_rng([self.seed, 5, key])
        odds = np.full(self.patients, np.log(self.prevalence / (1 - self.prevalence)))
        for name in modalities:
            seen = self.x[name] + np.sqrt(1 / reach - 1) * random.normal(size=self.patients)
            odds += self.present[name] * reach * (SIGNAL[name] * seen - SIGNAL[name] ** 2 / 2)
        return odds

    def probability(self, modalities) -> np.ndarray:
        return 1 / (1 + np.exp(-self.odds(modalities)))

    def samples(self) -> pl.DataFrame:
        """As a cohort's samples/mortality.parquet."""
        columns = {
            "sample_id": [str(stay) for stay in self.stay],
            "patient_id": self.patient,
            "stay_id": self.stay,
            "y": self.y[:, None].tolist(),
        }
        lengths = {f"{name}_length": there.astype(np.int32) for name, there in self.present.items()}
        return pl.DataFrame({**columns, **lengths}).with_columns(pl.col("y").cast(pl.List(pl.Float32)))

    def parts(self) -> pl.DataFrame:
        """fold, patient_id, part."""
        part = np.random.default_rng(4).choice(["val", "calib", "probe", "train"], self.patients, p=[0.125, 0.1, 0.1, 0.675])
        frames = [
            pl.DataFrame({"fold": fold, "patient_id": self.patient, "part": np.where(self.fold == fold, "test", part)})
            for fold in range(FOLDS)
        ]
        return pl.concat(frames).with_columns(pl.col("fold").cast(pl.Int8))

    def trained(self) -> dict[int, int]:
        return dict(self.parts().filter(pl.col("part") == "train").group_by("fold").len().iter_rows())

    def predictions(self, models=MODELS, seeds=(0,), only_present: bool = True) -> pl.DataFrame:
        """Predictions of each method, on the samples that have one of its modalities."""
        frames = []
        for (method, modalities, reach), seed, fold in itertools.product(models, seeds, range(FOLDS)):
            names = modalities.split("+")
            key = zlib.crc32(f"{method} {modalities} {seed} {fold}".encode())
            frame = pl.DataFrame(
                {
                    "run_id": f"{method}-{modalities}-{seed}-{fold}", "method": method, "seed": seed, "fold": fold,
                    "part": self.parts().filter(pl.col("fold") == fold)["part"], "head": "final",
                    "sample_id": [str(stay) for stay in self.stay], "patient_id": [str(patient) for patient in self.patient],
                    "label_name": "mortality", "y_true": self.y, "y_mask": True, "y_score": 1 / (1 + np.exp(-self.odds(names, reach, key))),
                    "modalities": modalities,
                }
            )  # fmt: skip
            there = np.any([self.present[name] for name in names], axis=0)
            frames.append(frame.filter(pl.Series(there | (not only_present))))
        return pl.concat(frames).filter(pl.col("part") != "train")

    def write(self, folder: Path, hours: float = 48, known: np.ndarray | None = None) -> Path:
        """The truth on disk; `known` says which stays have a ceiling."""
        stays = pl.DataFrame({"subject_id": self.patient, "stay_id": self.stay, "died": self.y > 0})
        sets = [chosen for size in (1, 2, 3) for chosen in itertools.combinations(SIGNAL, size)]
        ceilings = stays.with_columns(**{"_".join(("p", *chosen)): self.probability(chosen) for chosen in sets})
        ceilings = ceilings.with_columns(p_cxr_last=self.probability(["cxr"]), p_rep_stored=self.probability(["rep"]), mark_odds_cxr=0.0)
        columns = {f"noise_{name}": values for name, values in self.noise.items()}
        people = pl.DataFrame({"subject_id": self.patient, **columns, "corrupt_cxr": 0.1})
        late = pl.DataFrame({"stay_id": self.stay[:1], "minute": [60.0 * hours], "archived": [True], "blurred": [False], "cut": [True]})
        exams = pl.DataFrame(
            {"stay_id": self.stay, "minute": 30.0, "archived": self.present["cxr"], "blurred": self.stay % 10 == 0, "cut": False}
        )
        with store.create(folder, CLINIC, fingerprint=f"clinic-{self.seed}-{self.patients}") as out:
            store.write_parquet(out.path("stays.parquet"), stays)
            store.write_parquet(out.path("ceilings.parquet"), ceilings if known is None else ceilings.filter(pl.Series(known)))
            store.write_parquet(out.path("patients.parquet"), people)
            store.write_parquet(out.path("exams.parquet"), pl.concat([exams, late]))
            store.write_parquet(
                out.path("signals.parquet"), pl.DataFrame(schema={"stay_id": pl.Int64, "minute": pl.Float64, "lost": pl.Boolean})
            )
            store.write_json(out.path("design.json"), {"seed": self.seed, "knobs": {"stays": {"design_hours": hours}}})
        return folder


def write_lesions(folder: Path, patients: int = 90, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A truth of the lung; returns the lesions, and samples in the three classes."""
    random, grades = np.random.default_rng([seed, 9]), ("AAH", "AIS", "MIA", "IA1", "IA2", "IA3")
    grade = random.integers(0, 6, patients)
    chances = {name: random.dirichlet(np.ones(6), patients) + 0.4 * np.eye(6)[grade] for name in ("p_ct", "p_pet", "p_ct_pet")}
    lesions = pl.DataFrame(
        {
            "patient_id": [f"L{number:06d}" for number in range(patients)], "subtype": [grades[place] for place in grade],
            "noise_ct": random.random(patients), "noise_pet": random.random(patients),
            "corrupt_pet": random.random(patients) < 0.2, "present_pet": random.random(patients) < 0.7,
            **{name: (values / values.sum(1, keepdims=True)).tolist() for name, values in chances.items()},
        }
    )  # fmt: skip
    with store.create(folder, LUNG, fingerprint=f"lung-{seed}") as out:
        store.write_parquet(out.path("lesions.parquet"), lesions)
    samples = lesions.select(
        pl.format("{}/1", "patient_id").alias("sample_id"), "patient_id", y=pl.concat_list(pl.Series(grade // 2).cast(pl.Float32))
    )
    return lesions, samples
