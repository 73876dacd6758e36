"""Small cells cannot be read, nor had by subtraction."""

import copy

import numpy as np
import pytest
import simulated

from omnifuse.eval import cohort_tables, disclosure
from omnifuse.eval.evaluation import evaluate


@pytest.mark.parametrize("n", range(1, 11))
def test_a_small_cell_hides_another_one(n):
    hidden = disclosure.hide_small([[n, 50, 30]], 11)
    assert hidden.tolist() == [[True, False, True]]  # the total minus the others would give it back


@pytest.mark.parametrize(
    "counts, hidden",
    [
        ([[0, 50, 30]], [[0, 0, 0]]),
        ([[11, 12]], [[0, 0]]),
        ([[3, 4, 30]], [[1, 1, 0]]),
        ([[3, 0, 0]], [[1, 0, 0]]),  # nothing left to hide it with: the total itself is small
        ([[3, 40], [50, 60]], [[1, 1], [1, 1]]),
    ],
)
def test_complementary_cells(counts, hidden):
    assert disclosure.hide_small(counts, 11).astype(int).tolist() == hidden
    assert not disclosure.hide_small(counts, 0).any()


def solvable(counts, hidden) -> bool:
    """Whether a hidden cell follows from the shown ones and the totals of rows and columns."""
    counts, hidden = np.array(counts), np.array(hidden)
    unknown = np.argwhere(hidden)
    if not len(unknown):
        return False
    lines = [[tuple(cell) for cell in unknown if cell[0] == r] for r in range(counts.shape[0])] if counts.shape[1] > 1 else []
    lines += [[tuple(cell) for cell in unknown if cell[1] == c] for c in range(counts.shape[1])] if counts.shape[0] > 1 else []
    system = np.array([[tuple(cell) in line for cell in unknown] for line in lines], dtype=float)
    free = np.linalg.svd(system)[2][np.linalg.matrix_rank(system) :]  # null space: how the hidden cells may still vary
    return bool((np.abs(free).max(0, initial=0) < 1e-9).any()) if len(free) else True


def test_no_hidden_cell_follows_from_the_others():
    random = np.random.default_rng(0)
    for _ in range(200):
        counts = random.choice([12, 15, 20, 40, 3, 7], size=(random.integers(1, 4), random.integers(2, 5)))
        hidden = disclosure.hide_small(counts, 11)
        assert hidden[counts < 11].all()
        assert not solvable(counts, hidden), (counts, hidden)


def steps(*counts) -> list[dict]:
    return [{"step": f"step {number}", "stays": count} for number, count in enumerate(counts)]


@pytest.mark.parametrize(
    "counts, expected",
    [
        ((100, 80, 50), [("step 0", 100), ("step 1", 80), ("step 2", 50)]),
        ((100, 97, 50), [("step 0", 100), ("step 1; step 2", 50)]),
        ((100, 60, 58), [("step 0", 100), ("step 1; step 2", 58)]),
        ((100, 95, 93), [("step 0; step 1; step 2", 93)]),
        ((100, 100, 60), [("step 0", 100), ("step 1", 100), ("step 2", 60)]),
    ],
)
def test_steps_that_leave_out_few_are_told_together(counts, expected):
    assert [(step["step"], step["stays"]) for step in disclosure.merge_small_steps(steps(*counts), 11)] == expected
    assert disclosure.merge_small_steps(steps(*counts), 0) == steps(*counts)


def test_results_on_few_cases_are_hidden_in_every_fold():
    world = simulated.World(simulated.MULTILABEL, patients=150)
    results = evaluate(simulated.predictions(simulated.MULTILABEL, world=world), task=simulated.MULTILABEL, resamples=20).results
    before = copy.deepcopy(results)
    shown = disclosure.suppress(results, 11)
    assert results == before  # the original is left alone
    assert shown["settings"]["min_cell"] == 11
    for model in shown["models"]:
        for row in [*model["mean"], *(row for cell in model["cells"] for row in cell["rows"])]:
            if row.get("suppressed"):
                assert row["positives"] is None and row["prevalence"] is None and row["samples"] is None
                assert all(entry["value"] is None and "fewer than 11" in entry["reason"] for entry in row["metrics"].values())
            else:
                assert row["positives"] is None or row["positives"] == 0 or row["positives"] >= 11
    rare = next(row for row in shown["models"][0]["mean"] if row["label"] == "phenotype 0")
    assert rare["positives"] >= 11  # the label itself may be shown, its folds not
    place = [row["label"] for row in shown["models"][0]["mean"]].index("phenotype 0")
    assert all(cell["rows"][place]["suppressed"] for cell in shown["models"][0]["cells"])


def test_cohort_tables_count_what_there_is(tmp_path):
    cohort, _ = simulated.write(tmp_path, patients=120)
    made = cohort_tables.read_cohort(cohort, simulated.BINARY)
    world = simulated.World(simulated.BINARY, patients=120)
    rows = {name: cells for name, cells, _ in made.rows}
    positive = world.y[:, 0] == 1
    assert rows["Patients"] == ["120", str(len(set(world.owner[positive]))), str(len(set(world.owner[~positive])))]
    assert rows["Samples"] == [str(len(positive)), str(positive.sum()), str((~positive).sum())]
    women, men = (int(rows[sex][0].split()[0]) for sex in "FM")
    assert women + men == 120
    stays = cohort.table("stays.parquet")
    median = np.median(stays["los_hours"].to_numpy()) / 24
    assert rows["Days in the ICU: median (quartiles)"][0].startswith(f"{median:.1f} (")
    assert rows["yes"][0] == f"{positive.sum()} ({100 * positive.mean():.1f}%)"
    tests = [cells[made.parts_columns.index("test")] for _, cells in made.parts]
    assert sum(int(cell.split()[0]) for cell in tests) == 120
    assert sum(int(cell.split("(")[1].rstrip(")")) for cell in tests) == len(set(world.owner[positive]))


def test_cohort_tables_hide_small_cells(tmp_path):
    cohort, _ = simulated.write(tmp_path, patients=60)
    made = cohort_tables.read_cohort(cohort, simulated.BINARY, min_cell=11)
    every = [cell for _, cells, _ in made.rows for cell in cells] + [cell for _, cells in made.parts for cell in cells]
    counts = [
        int(cell.replace("(", " ").split()[0].replace(",", "")) for cell in every if cell[:1].isdigit() and "." not in cell.split()[0]
    ]
    assert counts and all(count == 0 or count >= 11 for count in counts)
    assert any(cell == "under 11" for cell in every)
    assert all(made.attrition[i]["stays"] - made.attrition[i + 1]["stays"] >= 11 for i in range(len(made.attrition) - 1))
