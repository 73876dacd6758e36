"""Vectors: which cell of several rows, what is missing stays missing through normalisation, categories and their masks."""

import numpy as np
import pytest
from table_study import HEAD, people

from omnifuse.preprocess import dataset, store
from omnifuse.preprocess.normaliser import fit_normaliser
from omnifuse.preprocess.schema import InputError


def build(study, text: str, columns: str, head: str = HEAD):
    cohort = study.build(head + f"modalities:\n  m: {{kind: columns, {columns}}}\n", people_csv=text)
    samples = cohort.table("samples/outcome.parquet")
    rows, names = np.array(cohort.array("m.npy")), cohort.meta["modalities"]["m"]["columns"]
    found = {}
    for name, start, length in samples.select("sample_id", "m_start", "m_length").iter_rows():
        found[name] = dict(zip(names, rows[start].tolist())) if length else None
    return found, cohort


FILMS = """pid,y,day,x,sex
a,1,0,1,M
a,1,9,3,
a,1,10,,F
a,1,10 or more,7,
b,0,,5,M
b,0,,6,M
c,1,2,inf,
c,1,1,"1,5",
d,0,1,4,F
"""


# several rows of one sample: a cell of the last (first) row that has one
@pytest.mark.parametrize("columns, a, b", [
    ("numeric: [x], order: day", 3, 6),               # 10 has no x, "10 or more" is no number: the last choice
    ("numeric: [x], order: day, take: first", 1, 6),  # of rows without an order the greatest
    ("numeric: [x]", 7, 6),
])  # fmt: skip
def test_which_of_several_rows(study, columns, a, b):
    found, _ = build(study, FILMS, columns)
    assert (found["a"]["x"], found["b"]["x"], found["d"]["x"]) == (a, b, 4)
    assert found["c"] is None  # inf and 1,5 are no values, and nothing else is there


def test_the_order_of_the_rows_decides_nothing(study):
    columns = "numeric: [x], categorical: [sex], order: day, min_patients: 1"
    first, _ = build(study, FILMS, columns)
    lines = FILMS.strip().split("\n")
    for shuffle in (lines[:0:-1], lines[5:] + lines[1:5]):
        again, _ = build(study, "\n".join([lines[0], *shuffle]) + "\n", columns)
        assert again == first


def test_every_cell_is_counted(study):
    _, cohort = build(study, FILMS, "numeric: [x], categorical: {sex: [F]}, order: day")
    audit = {row["column"]: row for row in cohort.json("audit.json")["columns"]}
    x, sex = audit["x"], audit["sex"]
    assert (x["present"], x["missing"], x["not_a_number"], x["infinite"], x["cells"]) == (6, 1, 1, 1, 9)
    assert (sex["present"], sex["missing"], sex["unknown_category"], sex["cells"]) == (2, 4, 3, 9)
    warnings = " ".join(cohort.json("audit.json")["warnings"])
    assert "column x: 1 of 8 cells are infinite" in warnings and "column x: 1 of 8 cells are no numbers" in warnings
    assert "1 samples have several values at one moment" in warnings


def test_a_bad_cell_can_be_refused_with_its_place(study):
    with pytest.raises(InputError) as caught:
        build(study, FILMS, "numeric: [x], on_bad_cell: error")
    assert "people.csv:8:x: is no finite number; 2 cells are none" in str(caught.value)
    assert "1,5" not in str(caught.value)


def test_categories_are_one_hot_with_a_mask(study):
    sexes = ["M", "F", "", "Unclear"]
    text = people(40, x=lambda n: n, sex=lambda n: "rare" if n == 39 else sexes[n % 4])
    found, cohort = build(study, text, "numeric: [x], categorical: [sex]")
    assert cohort.meta["modalities"]["m"]["columns"] == ["x", "sex->F", "sex->M", "sex->Unclear", "sex->other", "mask->x", "mask->sex"]
    one = lambda name: [found[name][key] for key in ("sex->F", "sex->M", "sex->Unclear", "sex->other", "mask->sex")]
    assert (one("p000"), one("p001"), one("p002"), one("p039")) == ([0, 1, 0, 0, 1], [1, 0, 0, 0, 1], [0] * 5, [0, 0, 0, 1, 1])


def test_words_for_missing_are_told_not_guessed(study):
    text = people(40, x=lambda n: "NA" if n % 3 == 0 else n)
    _, cohort = build(study, text, "numeric: [x]")
    assert cohort.json("audit.json")["columns"][0]["not_a_number"] == 14
    _, cohort = build(study, text, "numeric: [x]", head=HEAD + "missing: [NA]\n")
    row = cohort.json("audit.json")["columns"][0]
    assert (row["not_a_number"], row["missing"]) == (0, 14)


def test_what_was_never_measured_is_the_mean_of_the_training_part(study):
    text = people(200, x=lambda n: "" if n % 3 == 0 else n, z=lambda n: n * 10)
    _, cohort = build(study, text, "numeric: [x, z]")
    mean, std = fit_normaliser(cohort, "outcome", 0, "m")
    train = cohort.table("parts.parquet").filter(fold=0, part="train")["patient_id"]
    measured = [float(name[1:]) for name in train if int(name[1:]) % 3]
    assert mean[0] == pytest.approx(np.mean(measured)) and std[0] == pytest.approx(np.std(measured, ddof=1))
    assert mean[2:].tolist() == [0, 0] and std[2:].tolist() == [1, 1]  # masks are left alone
    features = make_features(study.folder / "features", cohort, mean, std)
    for batch in dataset.open_samples(cohort, features, "outcome", 0, ["m"]).part("train").batches(32):
        for name, values in zip(batch.sample_id, batch.values["m"].numpy()):
            number = int(name[1:])
            assert values[0] == pytest.approx((number - mean[0]) / std[0] if number % 3 else 0.0, abs=1e-5)
            assert values[2] == (number % 3 > 0)


def make_features(path, cohort, mean, std) -> store.Artefact:
    fitted = {str(fold): {"mean": mean.tolist(), "std": std.tolist()} for fold in cohort.meta["splits"]["folds"]}
    with store.create(path, "features", fingerprint="f") as out:
        store.write_json(out.path("normaliser.json"), {"m": fitted})
        about = {"from": "cohort", "dim": len(mean), "kind": "vector"}
        out.meta |= {"cohort": cohort.fingerprint, "task": "outcome", "modalities": {"m": about}}
    return store.open(path, "features")


def test_a_column_that_nobody_has_is_told(study):
    _, cohort = build(study, people(40, x=lambda n: n, z=lambda n: ""), "numeric: [x, z]")
    assert "column z holds nothing that can be used" in " ".join(cohort.json("audit.json")["warnings"])
    mean, std = fit_normaliser(cohort, "outcome", 0, "m")
    assert (mean[1], std[1]) == (0, 1)


def test_names_of_ours_may_stand_in_a_table(study):
    text = "sample,row,since,patient_id,y,group\n" + "".join(f"s{n},{n},{n + 1},p{n // 2},{n // 2 % 2},g\n" for n in range(40))
    head = "table: people.csv\npatient: patient_id\nsample: sample\ntask: outcome\nlabel: {column: y}\n"
    found, _ = build(study, text, "numeric: [row, since]", head=head)
    assert (found["s7"]["row"], found["s7"]["since"]) == (7, 8)
