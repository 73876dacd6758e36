"""What each modality weighs in each patient's prediction, of the methods that say so (`Output.weights`): a table of the run.

    sample_id, part, modality, omega        of val and test, a row for each modality that the sample possesses

OmniFuse gives omega of the predicted class, a mean over labels (eq 10); a gate of modalities gives the gate. Weights are what a method
computes with, and no attribution.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from omnifuse.models.contract import Output, Term
from omnifuse.models.prediction import Reader

FILE = "weights_of_modalities.parquet"
PARTS = ("val", "test")


class WeightsOfModalities:
    """Listens to the predictions of a part of N samples, as the `loss` of `prediction.predict`."""

    def __init__(self, part):
        self.part, self.found = part, None

    def __call__(self, output: Output, batch) -> dict[str, Term]:
        if output.weights is not None:
            weights = output.weights.float()
            if self.found is None:
                self.found = weights.new_zeros(len(self.part), weights.shape[1])
            self.found[batch.index] = weights
        return {}

    def table(self, reader: Reader) -> pl.DataFrame | None:
        """One row a sample and modality that it possesses; None of a method that weighs no modalities. Every process has to ask."""
        if self.found is None:
            return None
        weights = reader.sum(self.part, self.found).cpu().numpy()  # [N, M]
        sample, modality = np.nonzero(self.part.present)
        return pl.DataFrame(
            {
                "sample_id": self.part.sample_id.gather(sample),
                "part": pl.repeat(self.part.name, len(sample), dtype=pl.String, eager=True),
                "modality": np.array(self.part.modalities, dtype=object)[modality].tolist(),
                "omega": weights[sample, modality],
            },
            schema_overrides={"modality": pl.String, "omega": pl.Float32},
        )
