"""The bytes of a table: gzip that is whole or refused, regular files only, declared encodings, bombs."""

import gzip
import io
import os
import resource
import subprocess
import sys

import polars as pl
import pytest

from omnifuse.preprocess.schema import ConfigError, InputError
from omnifuse.preprocess.tables import Column, find, header, read, stream

COLUMNS = [Column("itemid", pl.Int64), Column("value", pl.String)]
CANARY = "zqxcanary"
TEXT = b"itemid,value\n" + b"".join(b"%d,%s%d\n" % (number, CANARY.encode(), number * 7919 % 997) for number in range(30_000))
ROWS = [(number, f"{CANARY}{number * 7919 % 997}") for number in range(30_000)]
ZIPPED = gzip.compress(TEXT, 6, mtime=0)


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def write(folder, content: bytes, name: str = "t.csv.gz"):
    path = folder / name
    path.write_bytes(content)
    return path


# --- gzip -------------------------------------------------------------------------------------------------------------

WHOLE = {
    "one member": ZIPPED,
    "members one after the other": gzip.compress(TEXT[:100_003]) + gzip.compress(b"") + gzip.compress(TEXT[100_003:]),
    "a member a row": b"".join(gzip.compress(line + b"\n") for line in TEXT.split(b"\n")[:300]),
    "padded with zeros": ZIPPED + bytes(1000),
    "with a file name": ZIPPED[:3] + b"\x08" + ZIPPED[4:10] + b"t.csv\0" + ZIPPED[10:],
    "stored, not packed": gzip.compress(TEXT, 0),
}


@pytest.mark.parametrize("chunk_bytes", [1 << 14, 1 << 23])
@pytest.mark.parametrize("name", WHOLE)
def test_whole_gzip_is_read_fully(name, chunk_bytes, tmp_path):
    rows = read(write(tmp_path, WHOLE[name]), COLUMNS, chunk_bytes=chunk_bytes).rows()
    assert rows == (ROWS[:299] if name == "a member a row" else ROWS)


CUT_OFF = "is cut off: its gzip data end too early (download it again)"
DAMAGED = "is damaged: its gzip data or checksum are wrong (download it again)"
BROKEN = {
    "cut in the middle": (ZIPPED[: len(ZIPPED) // 2], CUT_OFF),
    "cut in the checksum": (ZIPPED[:-5], CUT_OFF),
    "last byte missing": (ZIPPED[:-1], CUT_OFF),
    "cut in the header": (ZIPPED[:7], CUT_OFF),
    "second member cut": (gzip.compress(TEXT[:100_003]) + gzip.compress(TEXT[100_003:])[:-200], CUT_OFF),
    "wrong checksum": (flip(ZIPPED, len(ZIPPED) - 7), DAMAGED),
    "wrong length": (flip(ZIPPED, len(ZIPPED) - 2), DAMAGED),
    "checksum of the first of two members": (flip(ZIPPED, len(ZIPPED) - 7) + gzip.compress(b"1,a\n"), DAMAGED),
    "garbage behind": (ZIPPED + b"garbage behind the table", DAMAGED),
    "plain text": (TEXT, "is named .gz, but is not gzip"),
    "0 bytes": (b"", "is empty: it has 0 bytes"),
    "a member of 0 bytes": (gzip.compress(b""), "is empty: it inflates to 0 bytes"),
    "one byte": (b"\x1f", "is named .gz, but is not gzip"),
    "no method": (b"\x1f\x8b\x07" + ZIPPED[3:], DAMAGED),
}


@pytest.mark.parametrize("chunk_bytes", [1 << 14, 1 << 23])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_gzip_is_one_line(name, chunk_bytes, tmp_path):
    content, says = BROKEN[name]
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read(path, COLUMNS, chunk_bytes=chunk_bytes)
    assert str(caught.value).startswith(f"{path}: {says}")
    assert CANARY not in str(caught.value)


def test_one_altered_byte_of_stored_text_is_found(tmp_path):
    """The text stays a valid table with another value: only the checksum tells."""
    stored = gzip.compress(TEXT, 0)
    at = stored.index(CANARY.encode()) + 2
    with pytest.raises(InputError, match="checksum"):
        read(write(tmp_path, flip(stored, at)), COLUMNS)


@pytest.mark.parametrize("skip", ["error", "skip"])
def test_a_broken_file_cannot_be_skipped(skip, tmp_path):
    with pytest.raises(InputError, match="cut off"):
        read(write(tmp_path, ZIPPED[:-9]), COLUMNS, on_bad_row=skip, max_bad=10**9)


def test_gzip_without_its_ending_is_told(tmp_path):
    with pytest.raises(InputError, match="is gzip, but is not named .gz"):
        read(write(tmp_path, ZIPPED, "t.csv"), COLUMNS)


# --- what may be opened -----------------------------------------------------------------------------------------------


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere")
    for name in ("pipe.csv", "folder.csv", "device.csv"):
        with pytest.raises(InputError, match="is no regular file"):
            read(tmp_path / name, COLUMNS)
    for name in ("dangling.csv", "absent.csv", "absent.parquet"):
        with pytest.raises(InputError, match="cannot be opened: no such file"):
            read(tmp_path / name, COLUMNS)


def test_a_link_to_a_regular_file_is_followed(tmp_path):
    """Data folders are often links into a store of large files."""
    (tmp_path / "t.csv").symlink_to(write(tmp_path, TEXT, "store"))
    assert read(tmp_path / "t.csv", COLUMNS).height == 30_000


def test_odd_names_are_names_and_no_patterns(tmp_path):
    for name in ("a b.csv", "病人.csv", "*.csv", "[x].csv", "new\nline.csv"):
        assert read(write(tmp_path, TEXT[:26], name), COLUMNS).height == 1
        packed = io.BytesIO()
        pl.DataFrame({"itemid": [1], "value": ["a"]}).write_parquet(packed)
        assert read(write(tmp_path, packed.getvalue(), name.replace(".csv", ".parquet")), COLUMNS).height == 1


# --- encodings --------------------------------------------------------------------------------------------------------

CHINESE = 'itemid,value\n1,右肺上叶结节\n2,"发热，\n咳嗽"\n3,㐀𠀀\n'
ENCODED = [
    ("gb18030", CHINESE, "gb18030"),
    ("gbk", CHINESE.replace("㐀𠀀", "无"), "gbk"),
    ("gbk read as gb18030", CHINESE.replace("㐀𠀀", "无"), "gb18030"),
    ("latin-1", "itemid,value\n1,38.5 °C\n2,Müller\n", "latin-1"),
    ("utf-8", CHINESE, "utf-8"),
    ("utf-16", CHINESE, "utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize(("name", "text", "encoding"), ENCODED, ids=[name for name, *_ in ENCODED])
def test_a_declared_encoding_is_decoded(name, text, encoding, chunk_bytes, tmp_path):
    path = write(tmp_path, gzip.compress(text.encode(name.split()[0])))
    values = read(path, COLUMNS, encoding=encoding, chunk_bytes=chunk_bytes)["value"].to_list()
    assert list(header(path, encoding)) == ["itemid", "value"]
    assert "\n".join(values).split("\n") == [line.split(",", 1)[-1].strip('"') for line in text.splitlines()[1:]]


@pytest.mark.parametrize("encoding", ["gb18030", "gbk", "latin-1", "big5"])
def test_an_undeclared_encoding_is_refused_with_its_byte(encoding, tmp_path):
    head = "itemid,value\n1,plain\n2,"
    text = f"{head}{'體溫' if encoding == 'big5' else '°' if encoding == 'latin-1' else '结节'}\n3,plain\n"
    path = write(tmp_path, text.encode(encoding), "t.csv")
    with pytest.raises(InputError) as caught:
        read(path, COLUMNS)
    says = f"is not UTF-8 at byte {len(head)} (declare the encoding or convert the file)"
    assert str(caught.value) == f"{path}:3: {says}"


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_mixed_encodings_are_refused_in_either_reading(chunk_bytes, tmp_path):
    mixed = "itemid,value\n1,结节\n".encode() + "2,结节\n".encode("gb18030") + "3,℃\n".encode()
    path = write(tmp_path, mixed, "t.csv")
    with pytest.raises(InputError, match=rf"{path}:3: is not UTF-8 at byte 24"):
        read(path, COLUMNS, chunk_bytes=chunk_bytes)
    with pytest.raises(InputError, match="is not gb18030 at byte") as caught:
        read(path, COLUMNS, encoding="gb18030", chunk_bytes=chunk_bytes)
    at = int(str(caught.value).split("at byte ")[1].split()[0])
    with pytest.raises(UnicodeDecodeError) as plain:
        mixed.decode("gb18030")
    assert at == plain.value.start


def test_unknown_encodings_are_told(tmp_path):
    for encoding in ("klingon", "base64"):
        with pytest.raises(ConfigError, match="unknown encoding"):
            read(write(tmp_path, TEXT, "t.csv"), COLUMNS, encoding=encoding)


# --- size -------------------------------------------------------------------------------------------------------------


# 32 MB in 33 kB, as one member of many.
MEMBER = gzip.compress((b"1," + b"a" * 1021 + b"\n") * (1 << 15), 9)


@pytest.mark.parametrize("before", [b"", os.urandom(1 << 20).hex().encode()], ids=["bomb", "bomb behind a table"])
def test_a_bomb_is_refused(before, tmp_path):
    path = write(tmp_path, gzip.compress(b"itemid,value\n1," + before + b"\n") + MEMBER * 20)
    rows = 0
    with pytest.raises(InputError, match="inflates more than 200 times"):
        for chunk in stream(path, COLUMNS):
            rows += chunk.frame.height
    assert rows < 20 << 15, "refused before its end"


def test_a_long_field_is_read_and_an_endless_one_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'itemid,value\n1,"' + b"ab\n," * (10 << 18) + b'"\n2,x\n')
    frame = read(path, COLUMNS, chunk_bytes=1 << 16)
    assert [len(value) for value in frame["value"]] == [10 << 20, 1]
    with path.open("wb") as file:
        file.write(b"itemid,value\n1,a\n2,")
        file.truncate(3 << 30)  # 3 GB of NUL that take no disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r":3: is longer than 64 MB"):
        read(path, COLUMNS, on_bad_row="skip", max_bad=5)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000, "kB"


PEAK = """
import resource, sys
import polars as pl
from omnifuse.preprocess.tables import Column, stream
columns = [Column("itemid", pl.Int64), Column("value", pl.String)]
rows = sum(chunk.frame.height for chunk in stream(sys.argv[1], columns, chunk_bytes=1 << 20))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Ten times the rows, the same peak."""
    block = b"".join(b"%d,value %d\n" % (number, number * 7919 % 997) for number in range(100_000))
    peaks = {}
    for times in (20, 200):
        path = write(tmp_path, b"", f"{times}.csv.gz")
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(b"itemid,value\n")
            for _ in range(times):
                file.write(block)
        done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
        rows, peaks[times] = map(int, done.stdout.split())
        assert rows == times * 100_000
    assert peaks[200] < 1.1 * peaks[20]


# --- find -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "hosp/", "icu/", "core/", "ed/", "note/"])
@pytest.mark.parametrize("name", ["chartevents.csv.gz", "CHARTEVENTS.csv", "ChartEvents.Parquet", "chartevents.CSV.GZ"])
def test_a_table_is_found_in_any_case(place, name, tmp_path):
    (tmp_path / place).mkdir(exist_ok=True)
    path = write(tmp_path, b"x", place + name)
    write(tmp_path, b"x", "chartevents.csv.gz.part")
    write(tmp_path, b"x", "chartevents2.csv")
    assert find(tmp_path, "chartevents") == path
    assert find(tmp_path, "CHARTEVENTS") == path
    assert find(tmp_path, "labevents") is None


@pytest.mark.parametrize(
    "pair", [("patients.csv", "patients.csv.gz"), ("PATIENTS.csv", "patients.csv"), ("hosp/patients.csv", "core/patients.csv")]
)
def test_a_table_twice_is_told_with_both_names(pair, tmp_path):
    for name in pair:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, b"x", name)
    with pytest.raises(InputError) as caught:
        find(tmp_path, "patients")
    assert all(name in str(caught.value) for name in pair)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be listed"):
        find(tmp_path / "nowhere", "patients")
