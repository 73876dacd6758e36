"""Electrocardiograms in the layout of MIMIC-IV-ECG 1.0: a record list, and WFDB records of format 16.

    ecg/record_list.csv
    ecg/files/p1000/p10000032/s40689238/40689238.{hea,dat}

Source: header and signal formats of WFDB, https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from omnifuse.preprocess.clinic.ecg import LEADS, SignalTokens, draw_signal
from omnifuse.preprocess.clinic.film_files import STAYS, STUDIES_A_STAY
from omnifuse.preprocess.clinic.hospital import scramble
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.observe import SIG, Seen, easy_first
from omnifuse.preprocess.clinic.world import World
from omnifuse.preprocess.store import Builder

RECORDS = "ecg/record_list"
GAIN = 200  # steps a millivolt, as in MIMIC-IV-ECG
MOST = 2**15 - 1


@dataclass
class SignalArchive:
    """Writes the records of stays as they come, and collects the rows of the record list."""

    world: World
    seed: int
    builder: Builder
    rows: dict[str, list[tuple]] = field(default_factory=lambda: {RECORDS: []})

    def add(self, patient: int, number: int, subject: int, seen: Seen, times: list[datetime]) -> None:
        """The records of one stay."""
        for j, time in enumerate(times):
            study = record_id(patient, number, j)
            path = f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
            lead = stream(self.seed, patient, "signal body")
            own = stream(self.seed, patient, f"signal {j}", number)
            millivolt = draw_signal(signal_tokens(self.world, seen, j), lead, own, self.world.signal.hertz)
            digital = np.clip(np.rint(millivolt * GAIN), -MOST, MOST).astype("<i2")
            self.builder.path(f"ecg/{path}.hea").write_text(header(str(study), digital, self.world.signal.hertz, time), encoding="ascii")
            self.builder.path(f"ecg/{path}.dat").write_bytes(digital.tobytes())
            self.rows[RECORDS].append((subject, study, study, time, path))


def signal_tokens(world: World, seen: Seen, j: int) -> SignalTokens:
    """Which token each carrier shows."""
    easy, hard = easy_first("signal", world.signal.unique_in)
    token = seen.signals.token[j]
    return SignalTokens(
        rate=token[easy], st=token[hard], noise=seen.noise[SIG], lost=bool(seen.signals.lost[j]), mark=bool(seen.marks[SIG])
    )


def header(name: str, digital: np.ndarray, hertz: int, time: datetime) -> str:
    """The .hea of a record; `digital` [T, leads] int16, interleaved in the .dat as it is."""
    lines = [f"{name} {digital.shape[1]} {hertz} {len(digital)} {time:%H:%M:%S} {time:%d/%m/%Y}"]
    for k, lead in enumerate(LEADS):
        column = digital[:, k].astype(np.int64)
        checksum = ((int(column.sum()) + 2**15) % 2**16) - 2**15  # the sum in 16 bits with sign
        lines.append(f"{name}.dat 16 {GAIN}.0(0)/mV 16 0 {column[0]} {checksum} 0 {lead}")
    return "\n".join(lines) + "\n"


def record_id(patient: int, number: int, j: int) -> int:
    key = (patient * STAYS + number) * STUDIES_A_STAY + j
    return scramble(key % 9_999_991, 40_000_000 + 1_000_000_000 * (key // 9_999_991))
