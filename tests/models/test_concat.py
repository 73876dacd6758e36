"""What stands for an absent modality in the concatenation."""

import cohorts
import pytest
import torch
from small import small_encoders

from omnifuse.models import registry
from omnifuse.models.context import TrainContext
from omnifuse.models.encoding import encode
from omnifuse.models.prediction import Reader


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return cohorts.samples(tmp_path_factory.mktemp("s"), modalities=("ehr", "rep"), patients=80, dim=4, steps=(2, 5), absent=0.5)


@pytest.mark.parametrize("fill", ["encoder_zero", "zero", "mean"])
def test_fill(samples, fill):
    method = registry.build(
        {"name": "concat", "fill": fill}, small_encoders(samples.modalities, dropout=0.0), samples.dims, samples.task, 0
    )
    (stage,) = method.stages()
    method.begin_stage(TrainContext(method, samples, Reader(torch.device("cpu"), size=7), stage, 0, 0, 0))
    train = samples.part("train")
    (batch,) = train.batches(len(train))
    pooled = encode(method.encoders["rep"], batch, "rep").pooled
    there = batch.present[:, 1]
    expected = {"encoder_zero": method.encoders["rep"].zero(), "zero": torch.zeros(8), "mean": pooled[there].mean(0)}[fill]
    filled = torch.where(there[:, None], pooled, expected)
    logits = method.head([encode(method.encoders["ehr"], batch, "ehr").pooled, filled])
    torch.testing.assert_close(method(batch).logits, logits)
    assert 0 < there.sum() < len(there)


def test_its_slices_add_up_to_its_head(samples):
    method = registry.build({"name": "concat"}, small_encoders(samples.modalities), samples.dims, samples.task, 0)
    blocks = {name: torch.randn(6, 8) for name in samples.modalities}
    slices = sum(method.head_for(name)(block) for name, block in blocks.items())
    torch.testing.assert_close(slices, method.head([*blocks.values()]))
