"""Split lists of others: each form they come in, and what is wrong with a broken one."""

import gzip
from importlib.resources import files

import polars as pl
import pytest

from omnifuse.preprocess.frozen import read_frozen
from omnifuse.preprocess.schema import InputError

RESOURCES = files("omnifuse.preprocess.mimic") / "resources"


def written(folder, texts: dict[str, str | bytes]):
    paths = []
    for name, text in texts.items():
        paths.append(folder / name)
        raw = text if isinstance(text, bytes) else text.encode()
        paths[-1].write_bytes(gzip.compress(raw) if name.endswith(".gz") and isinstance(text, str) else raw)
    return paths


def as_dict(table: pl.DataFrame) -> dict:
    return dict(table.select("patient_id", "part").iter_rows())


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"s.csv": "patient_id,part\n7,train\n8,val\n"}, {"7": "train", "8": "val"}),
        ({"s.csv.gz": "\ufeffsubject_id,PART,note\r\n7, validate ,x\r\n8,Validation,y\r\n"}, {"7": "val", "8": "val"}),
        ({"s.csv": 'part,patient_id\ntest,"a,b"\nprobe,c\ncalib,c2\n'}, {"a,b": "test", "c": "probe", "c2": "calib"}),
        ({"testset.csv": "1,1\n2,0\n3,0\n", "valset.csv": "2,1\n3,0\n"}, {"1": "test", "2": "val", "3": "train"}),
        # MedFuse: the lists do not tile; a subject of only the first is a train subject
        ({"testset_iv.csv": "1,1\n2,0\n3,0\n4,0\n", "valset_iv.csv": "2,1\n"}, {"1": "test", "2": "val", "3": "train", "4": "train"}),
        ({"testset.csv": "1,1\n2,0\n"}, {"1": "test", "2": "train"}),
        ({"testset.csv": "patient_id,part\n1,val\n"}, {"1": "val"}),  # a header outweighs the name
        ({"a.csv": "patient_id,part\n1,val\n", "b.csv": "patient_id,part\n1,val\n2,test\n"}, {"1": "val", "2": "test"}),
    ],
)
def test_forms(tmp_path, texts, expected):
    assert as_dict(read_frozen(written(tmp_path, texts))) == expected


def test_a_folder_of_both_lists(tmp_path):
    written(tmp_path, {"testset_iv.csv": "1,1\n2,0\n", "valset_iv.csv": "2,1\n", "README.md": "", "other.csv": "x"})
    assert as_dict(read_frozen([tmp_path])) == {"1": "test", "2": "val"}


def test_the_parts_of_another_cohort(tmp_path):
    parts = pl.DataFrame({"fold": [0, 1], "patient_id": [7, 7], "part": ["test", "val"]}, schema_overrides={"fold": pl.Int8})
    parts.write_parquet(tmp_path / "parts.parquet")
    assert read_frozen([tmp_path / "parts.parquet"]).rows() == [("7", "test", 0), ("7", "val", 1)]


def test_a_column_of_folds(tmp_path):
    table = read_frozen(written(tmp_path, {"s.csv": "fold,patient_id,part\n0,1,test\n1,1,val\n"}))
    assert table.rows() == [("1", "test", 0), ("1", "val", 1)] and table.schema["fold"] == pl.Int8


def test_the_lists_of_mimic3_benchmarks_keep_their_first_subjects():
    table = read_frozen([RESOURCES / "testset_mimic3.csv.gz", RESOURCES / "valset_mimic3.csv.gz"])
    counts = dict(table["part"].value_counts().iter_rows())
    assert counts == {"train": 23_556, "val": 5_172, "test": 5_070}
    lists = [gzip.decompress((RESOURCES / f"{name}_mimic3.csv.gz").read_bytes()) for name in ("testset", "valset")]
    first = [text.split(b",")[0].decode() for text in lists]
    assert set(first) <= set(table["patient_id"])


@pytest.mark.parametrize(
    ("texts", "where", "error"),
    [
        ({"s.csv": "patient_id,part\n71,train\n71,val\n72,val\n"}, "s.csv", "1 of 2 patients are listed with different parts"),
        ({"testset.csv": "71,1\n72,0\n", "valset.csv": "71,1\n"}, "testset.csv", "1 of 2 patients are listed with different parts"),
        ({"s.csv": "patient_id,part\n71,train\n72,tset\n"}, "s.csv:3", "the part is none of"),
        ({"s.csv": "patient_id,part\n71\n"}, "s.csv:2", "1 field instead of 2"),
        ({"s.csv": "patient_id,part\n,train\n"}, "s.csv:2:patient_id", "is empty"),
        ({"s.csv": "patient_id,subject_id,part\n71,71,train\n"}, "s.csv", "needs the columns"),
        ({"s.csv": "patient_id,split\n71,train\n"}, "s.csv", "needs the columns"),
        ({"s.csv": "patient_id,part,fold\n71,train,two\n"}, "s.csv:2:fold", "is no whole number"),
        ({"s.csv": "71,1\n72,0\n"}, "s.csv", "lists without a header are read where they are named testset"),
        ({"testset.csv": "71,1\n72,2\n"}, "testset.csv:2", "a flag 0 or 1"),
        ({"testset.csv": "71,1,0\n"}, "testset.csv:1", "a flag 0 or 1"),
        ({"s.csv": "patient_id,part,fold\n71,train,127\n"}, "s.csv:2", "the fold is no number from 0 to 126"),
        ({"testset.csv": '"71,1\n'}, "testset.csv", "a quote is left open"),
        ({"testset.csv": b"71\xff,1\n"}, "testset.csv", "is not UTF-8"),
        ({"testset.csv.gz": gzip.compress(b"71,1\n72,0\n")[:-9]}, "testset.csv.gz", "is cut off"),
        ({"s.csv": ""}, "s.csv", "is empty"),
        ({"s.csv": "patient_id,part\n"}, "s.csv", "name no patient"),
        ({"s.csv": 'patient_id,part\n"71,train\n'}, "s.csv", "a quote is opened and never closed"),
        ({"s.csv": b"patient_id,part\n71\xff,train\n"}, "s.csv", "is not UTF-8"),
        ({"s.csv.gz": gzip.compress(b"patient_id,part\n71,train\n")[:-9]}, "s.csv.gz", "is cut off"),
        ({"s.csv.gz": gzip.compress(b"patient_id,part\n71,train\n")[:-8] + bytes(8)}, "s.csv.gz", "checksum are wrong"),
        ({"a.csv": "patient_id,part\n71,val\n", "b.csv": "patient_id,part,fold\n71,val,0\n"}, "a.csv", "one split list has a column fold"),
    ],
)
def test_a_broken_list_is_named_without_its_values(tmp_path, texts, where, error):
    with pytest.raises(InputError, match=error) as raised:
        read_frozen(written(tmp_path, texts))
    assert f"{tmp_path}/{where}" in str(raised.value)
    assert "71" not in str(raised.value).replace(str(tmp_path), "") and raised.value.__suppress_context__ in (
        True,
        raised.value.__context__ is not None,
    )


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_a_missing_list(tmp_path, name):
    with pytest.raises(InputError, match=r"cannot be opened|holds 0 files testset"):
        read_frozen([tmp_path / name])
