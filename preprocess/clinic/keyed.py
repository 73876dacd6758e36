"""Random numbers keyed by what they are for, so that patient 17 is the same person in a clinic of 100 or of 10,000.

Each (seed, patient, stay, purpose) has its own Philox stream. A further modality takes a purpose of its own ("film", "note") and moves
no number of those that are there.
"""

from __future__ import annotations

import zlib

from numpy.random import Generator, Philox, SeedSequence


def stream(seed: int, patient: int, purpose: str, stay: int = 0) -> Generator:
    """The generator of this seed, patient, stay of the patient, and purpose."""
    return Generator(Philox(SeedSequence((seed, patient, stay, zlib.crc32(purpose.encode())))))
