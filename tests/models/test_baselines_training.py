"""The baselines in training: what they trace, that stopping anywhere changes nothing, and that no sample depends on its batch."""

import math

import cohorts
import polars as pl
import pytest
import torch
from safetensors.numpy import load
from small import method_defaults, small_encoders
from test_training import Stopper, assert_equal_runs

from omnifuse.models import registry, training
from omnifuse.models.interruption import Interrupted

MODALITIES = ("ehr", "rep", "sig")
BASELINES = (
    "sum", "late_average", "modality_dropout", "mask_only", "se_gate", "ogm_ge", "gblend", "pmr", "medfuse", "healnet", "drfuse",
)  # fmt: skip
HOOKED = {
    "ogm_ge": {"ends": 2},
    "gblend": {"estimate_epochs": 2, "rounds": 2, "round_epochs": 1},
    "pmr": {"entropy_epochs": 2, "fill": "mean"},
}
TRAIN = {"lr": 0.01, "batch_size": 32, "epochs": 3, "patience": 3, "log_steps": 1}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples")
    return cohorts.samples(path, kind="multilabel", modalities=MODALITIES, patients=200, dim=4, steps=(2, 6), absent=0.4, unknown=0.1)


@pytest.fixture(scope="module")
def fit(samples):
    def fit(run, name, options=None, **given):
        method = method_defaults(name) | (options or {})
        train = TRAIN | {"tensorboard": given.pop("tensorboard", False)}
        encoders = small_encoders(samples.modalities)
        return training.train(samples, samples.task, method, encoders, train, fold=0, seed=0, run=run, device="cpu", **given)

    return fit


@pytest.fixture(scope="module")
def trained(fit, tmp_path_factory):
    """One run of each method that does more in training than descend."""
    return {name: fit(tmp_path_factory.mktemp(name) / "run", name, options, tensorboard=True) for name, options in HOOKED.items()}


def built(samples, name: str, **options):
    return registry.build(method_defaults(name) | options, small_encoders(samples.modalities), samples.dims, samples.task, 0)


@pytest.mark.parametrize("name", BASELINES)
def test_no_sample_depends_on_its_batch(samples, name):
    """Nor on how far its batch is padded."""
    method = built(samples, name).eval()
    batch = next(samples.part("train").batches(24, seed=1))
    assert not batch.present.all() and batch.present.all(1).any()
    together = method(batch).logits
    for row in range(len(batch)):
        alone = batch.take(torch.tensor([row]))
        for m in MODALITIES:
            length = max(int(alone.mask[m].sum()), 1)
            alone.values[m], alone.mask[m] = alone.values[m][:, :length], alone.mask[m][:, :length]
        torch.testing.assert_close(method(alone).logits[0], together[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"mask_only"}))
def test_every_pattern_has_an_answer_and_a_gradient(samples, name):
    """All seven, in one step each, a pattern that all samples of the batch share."""
    part = samples.part("train").where(lambda present: present.all(1))
    for pattern in range(1, 8):
        method = built(samples, name).train()
        visible = torch.tensor([bool(pattern >> m & 1) for m in range(3)])
        batch = next(part.batches(12)).hide(visible)
        output = method(batch)
        terms = method.loss(output, batch, method.stages()[-1])
        sum(term.weight * term.mean for term in terms.values()).backward()
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        assert torch.isfinite(output.logits).all() and all(torch.isfinite(gradient).all() for gradient in gradients)
        seen = [any(p.grad is not None and p.grad.any() for p in method.encoders[m].parameters()) for m in MODALITIES]
        assert seen == visible.tolist() or getattr(getattr(method, "filling", None), "fill", "") == "encoder_zero"


def traces(run, stage: str = "fusion") -> dict[str, list[float]]:
    table = run.table("traces.parquet").filter(pl.col("stage").str.starts_with(stage)).sort("epoch", maintain_order=True)
    return {name: table.filter(pl.col("name") == name)["value"].to_list() for name in table["name"].unique()}


def test_ogm_ge_traces_ratio_and_coefficient_while_it_modulates(trained):
    found = traces(trained["ogm_ge"])
    assert set(found) == {f"{about}/{m}" for about in ("ratio", "coefficient") for m in MODALITIES} | {"ece/final"}
    for m in MODALITIES:
        ratio, k = found[f"ratio/{m}"], found[f"coefficient/{m}"]
        assert all(0 < value < 5 for value in ratio) and all(0 < value <= 1 for value in k)
        assert len(ratio) == len(k) == 2  # ends: 2, of three epochs
    assert any(found[f"coefficient/{m}"][0] < 1 for m in MODALITIES)


def test_gblend_estimates_before_every_round_and_traces_it(trained):
    run = trained["gblend"]
    order = [f"estimate-{number}-{head}" for number in (1, 2) for head in (*MODALITIES, "fused")]
    stages = {stage["stage"]: stage for stage in run.meta["stages"]}
    assert list(stages) == [*order[:4], "fusion-1", *order[4:], "fusion-2"]
    assert {(stages[name]["epoch"], stages[name]["epochs"]) for name in order} == {(0, 2)}  # all its epochs, none of them kept
    for number in (1, 2):
        found = traces(run, f"fusion-{number}")
        weight = [found[f"weight/{head}"][0] for head in (*MODALITIES, "fused")]
        assert sum(weight) == pytest.approx(1) and weight[-1] >= 0.1 - 1e-6
        for head in (*MODALITIES, "fused"):
            assert math.isfinite(found[f"gain/{head}"][0]) and (found[f"gain/{head}"][0] > 0 or found[f"weight/{head}"][0] < 0.11)
    heads = set(run.table("predictions/full.parquet")["head"])
    assert heads == {"final", *MODALITIES}


def test_pmr_traces_its_prototypes(trained):
    found = traces(trained["pmr"])
    wanted = {f"{about}/{m}" for about in ("ratio", "coefficient", "prototype distance") for m in MODALITIES}
    assert set(found) == wanted | {"ece/final"}
    for m in MODALITIES:
        assert all(0 < value < 50 for value in found[f"prototype distance/{m}"])
        assert all(0 <= value <= 1 for value in found[f"coefficient/{m}"])
    assert any(found[f"coefficient/{m}"][1] > 0 for m in MODALITIES)
    weights = load(trained["pmr"].file("weights.safetensors").read_bytes())
    assert weights["prototypes.ehr.centre"].shape == (4, 2, 8) and weights["prototypes.ehr.known"].all()


@pytest.mark.parametrize("name", HOOKED)
def test_stopped_anywhere_and_resumed_they_are_the_same(fit, trained, tmp_path, name):
    total = int(trained[name].table("history.parquet")["step"].max())
    for step in sorted({1, total // 3, total // 2 + 1, total - 3}):
        with pytest.raises(Interrupted):
            fit(tmp_path / "run", name, HOOKED[name], tensorboard=True, progress=Stopper(step))
    assert_equal_runs(fit(tmp_path / "run", name, HOOKED[name], tensorboard=True), trained[name])
