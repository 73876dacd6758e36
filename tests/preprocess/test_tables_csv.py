"""The strict reader of CSV: what is legal is read as it stands, what is not is one line with file and row, and never a value."""

import csv
import io
import threading

import polars as pl
import pytest
import strict_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnifuse.preprocess.schema import ConfigError, InputError, Silent
from omnifuse.preprocess.tables import Column, find, header, read, stream

CANARY = "zqxcanary"
ID = Column("itemid", pl.Int64)
VALUE = Column("valuenum", pl.Float64)
UNIT = Column("valueuom", pl.String)
COLUMNS = [ID, VALUE, UNIT]
HEADER = b"itemid,valuenum,valueuom\n"
CHUNKS = (1, 16, 1 << 20)


@pytest.fixture
def table(tmp_path):
    def write(content: bytes, name: str = "t.csv"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


# --- legal ------------------------------------------------------------------------------------------------------------

LEGAL = {
    "plain": (HEADER + b"1,2.5,mg\n2,3,kg\n", [(1, 2.5, "mg"), (2, 3.0, "kg")]),
    "no line break at the end": (HEADER + b"1,2.5,mg", [(1, 2.5, "mg")]),
    "blank lines at the end": (HEADER + b"1,2.5,mg\n\r\n\n\n", [(1, 2.5, "mg")]),
    "header only": (HEADER, []),
    "header without a line break": (HEADER.strip(), []),
    "CRLF": (HEADER.replace(b"\n", b"\r\n") + b'1,2.5,mg\r\n2,3,"k,g"\r\n3,4,\r\n', [(1, 2.5, "mg"), (2, 3.0, "k,g"), (3, 4.0, None)]),
    "LF and CRLF": (HEADER + b"1,2.5,mg\r\n2,3,kg\n", [(1, 2.5, "mg"), (2, 3.0, "kg")]),
    "BOM": (b"\xef\xbb\xbf" + HEADER + b"1,2.5,mg\n", [(1, 2.5, "mg")]),
    "upper-case header": (HEADER.upper() + b"1,2.5,mg\n", [(1, 2.5, "mg")]),
    "quoted header": (b'"ITEMID","VALUENUM","VALUEUOM"\n' + b'1,2.5,"mg"\n', [(1, 2.5, "mg")]),
    "blanks in the header": (b"itemid, valuenum ,valueuom\n1,2.5,mg\n", [(1, 2.5, "mg")]),
    "other order and other columns": (b'row_id,valueuom,note,itemid,valuenum\n9,mg,"a\nb,",1,2.5\n', [(1, 2.5, "mg")]),
    "quoted line break": (HEADER + b'1,2.5,"m\ng"\n2,3,"k\r\n\r\ng"\n', [(1, 2.5, "m\ng"), (2, 3.0, "k\r\n\r\ng")]),
    "quoted separator": (HEADER + b'1,2.5,",,,"\n2,3,kg\n', [(1, 2.5, ",,,"), (2, 3.0, "kg")]),
    "doubled quotes": (HEADER + b'1,2.5,"5"" x ""6"""\n2,3,""""\n', [(1, 2.5, '5" x "6"'), (2, 3.0, '"')]),
    "quoted numbers": (HEADER + b'"1","2.5","mg"\n', [(1, 2.5, "mg")]),
    "empty is null, quoted or not": (HEADER + b',,\n"","",""\n', [(None, None, None), (None, None, None)]),
    "nothing else is null": (
        HEADER + b"1,1,None\n1,1,NA\n1,1,nan\n1,1,null\n1,1, \n",
        [(1, 1.0, text) for text in ("None", "NA", "nan", "null", " ")],
    ),
    "blanks around text stay": (HEADER + b"1,2, mg \n", [(1, 2.0, " mg ")]),
    "blanks before a number": (HEADER + b"  1, 2.5,mg\n , ,mg\n", [(1, 2.5, "mg"), (None, None, "mg")]),
    "numbers": (
        HEADER + b"+1,+2.,a\n-007,.5,b\n9223372036854775807,1e-3,c\n-9223372036854775808,-1E+3,d\n0,1e-400,e\n",
        [(1, 2.0, "a"), (-7, 0.5, "b"), (2**63 - 1, 0.001, "c"), (-(2**63), -1000.0, "d"), (0, 0.0, "e")],
    ),
    "UTF-8": (HEADER + "1,2,°F\n2,3,毫克\n".encode(), [(1, 2.0, "°F"), (2, 3.0, "毫克")]),
    "a replacement character that stands in the file": (HEADER + "1,2,\ufffd\n".encode(), [(1, 2.0, "\ufffd")]),
}


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize("name", LEGAL)
def test_legal_text_is_read_as_it_stands(name, chunk_bytes, table):
    content, expected = LEGAL[name]
    frame = read(table(content), COLUMNS, chunk_bytes=chunk_bytes)
    assert frame.rows() == expected
    assert frame.schema == {column.name: column.dtype for column in COLUMNS}


def test_only_what_is_asked_comes_under_its_canonical_name(table):
    path = table(b"ICUSTAY_ID,ETHNICITY,X\n1,A,2\n")
    stay = Column("stay_id", pl.Int64, aliases=("icustay_id",))
    race = Column("race", pl.String, aliases=("ethnicity",))
    assert read(path, [race, stay]).to_dicts() == [{"race": "A", "stay_id": 1}]
    assert header(path) == ("icustay_id", "ethnicity", "x")


def test_the_canonical_name_goes_before_its_aliases(table):
    column = Column("race", pl.String, aliases=("ethnicity",))
    assert read(table(b"ethnicity,race\nold,new\n"), [column])["race"].to_list() == ["new"]


def test_an_optional_column_that_is_absent_is_null(table):
    frame = read(table(b"itemid\n1\n2\n"), [ID, Column("warning", pl.Int64, required=False)])
    assert frame.to_dict(as_series=False) == {"itemid": [1, 2], "warning": [None, None]}
    assert frame.schema["warning"] == pl.Int64


# --- bad headers and files --------------------------------------------------------------------------------------------

BAD_HEADERS = {
    "0 bytes": (b"", "t.csv: is empty"),
    "blank header": (b"\n1,2,3\n", "t.csv:1: the header is blank"),
    "missing column": (b"valuenum,valueuom\n1,2\n", "t.csv:1: column itemid is missing"),
    "renamed column": (b"item_id,valuenum,valueuom\n1,2,3\n", "column itemid is missing (the nearest is item_id)"),
    "column twice": (b"itemid,valuenum,valueuom,itemid\n1,2,3,4\n", "t.csv:1: columns 1 and 4 have the same name, itemid"),
    "twice in another case": (b"itemid,valuenum,valueuom,ITEMID\n1,2,3,4\n", "columns 1 and 4 have the same name"),
    "a stranger twice": (f"itemid,valuenum,valueuom,{CANARY},{CANARY}\n1,2,3,4,5\n".encode(), "columns 4 and 5 have the same name"),
    "no header": (f"211,97.5,{CANARY}\n211,98.1,bpm\n".encode(), "itemid is missing (the first line looks like data"),
    "open quote in the header": (b'itemid,"valuenum\n1,2\n', "t.csv:1: the quotes of the header do not close"),
    "UTF-16": ("itemid,valuenum,valueuom\n1,2,3\n".encode("utf-16"), "t.csv:1: the header is not UTF-8 at byte 0"),
    "Latin-1 header": ("itemid,valuenum,größe\n".encode("latin-1"), "t.csv:1: the header is not UTF-8 at byte 18"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header_is_named(name, table):
    content, says = BAD_HEADERS[name]
    with pytest.raises(InputError) as caught:
        read(table(content), COLUMNS)
    assert says in str(caught.value)
    assert CANARY not in str(caught.value)


# --- bad rows ---------------------------------------------------------------------------------------------------------

# The bad record, and what is said of it.
BAD_ROWS = {
    "short row": (b"1,zqxcanary", ": 2 fields instead of 3"),
    "one field": (b"zqxcanary", ": 1 field instead of 3"),
    "long row": (b"1,2,zqxcanary,4", ": 4 fields instead of 3"),
    "long by an empty field": (b"1,2,zqxcanary,", ": 4 fields instead of 3"),
    "trailing garbage": (b"\x1a#### zqxcanary", ": 1 field instead of 3"),
    "blank line": (b"", ": is blank"),
    "blank line, CR": (b"\r", ": is blank"),
    "comma decimal": (b"1,2,5,zqxcanary", ": 4 fields instead of 3"),
    "quoted comma decimal": (b'1,"2,5",zqxcanary', ":valuenum: is no number"),
    "text in a whole number": (b"zqxcanary,2,x", ":itemid: is no whole number"),
    "point in a whole number": (b"1.0,2,zqxcanary", ":itemid: is no whole number"),
    "whole number too large": (b"9223372036854775808,2,zqxcanary", ":itemid: is no whole number"),
    "thousands": (b"1,1 000,zqxcanary", ":valuenum: is no number"),
    "text in a number": (b"1,zqxcanary,x", ":valuenum: is no number"),
    "unit in a number": (b"1,60/min,zqxcanary", ":valuenum: is no number"),
    "bound": (b"1,>200,zqxcanary", ":valuenum: is no number"),
    "blank behind a number": (b"1,2 ,zqxcanary", ":valuenum: is no number"),
    "hexadecimal": (b"1,0x1F,zqxcanary", ":valuenum: is no number"),
    "full-width digits": ("1,１２,zqxcanary".encode(), ":valuenum: is no number"),
    "beyond a double": (b"1,1e400,zqxcanary", ":valuenum: is no finite number"),
    "NaN": (b"1,NaN,zqxcanary", ":valuenum: is no finite number"),
    "nan": (b"1,nan,zqxcanary", ":valuenum: is no finite number"),
    "inf": (b"1,inf,zqxcanary", ":valuenum: is no finite number"),
    "-Infinity": (b"1,-Infinity,zqxcanary", ":valuenum: is no finite number"),
    "quote inside a field": (b'1,2,zqx"canary', ": a quote stands inside a field"),
    "two quotes inside a field": (b'1,2,zqx"cana"ry', ": a quote stands inside a field"),
    "text behind a closing quote": (b'1,2,"zqx"canary', ": a quote stands inside a field, or text behind its closing quote"),
    "open quote": (b'1,2,"zqxcanary', "quote"),
    "open quote before the last field": (b'1,"2,zqxcanary', "quote"),
    "NUL": (b"1,2,zqx\0canary", ": holds a NUL byte"),
    "quoted NUL": (b'1,2,"zqx\0canary"', ": holds a NUL byte"),
    "lone CR": (b"1,2,zqx\rcanary", ": holds a carriage return that ends no line"),
    "CR behind a quote": (b'1,2,"zqxcanary"\rx', ": holds a carriage return that ends no line"),
    "not UTF-8": (b"1,2,zqxcanary\xb0", ": is not UTF-8 at byte"),
    "half a character": (b"1,2,zqxcanary\xe6\xaf", ": is not UTF-8 at byte"),
    "surrogate": (b"1,2,zqxcanary\xed\xa0\x80", ": is not UTF-8 at byte"),
}
SOUND = [f"{number},{number}.5,unit{number}" for number in range(7)]
ROWS = [(number, number + 0.5, f"unit{number}") for number in range(7)]
PLACES = {"first": 0, "middle": 3, "last": 7}
# Blank lines at the end of the file are legal.
TRIES = [(name, place) for name, (record, _) in BAD_ROWS.items() for place in PLACES if record.strip() or place != "last"]


def with_bad(record: bytes, place: int) -> bytes:
    rows = [row.encode() for row in SOUND]
    rows.insert(place, record)
    return HEADER + b"\n".join(rows) + b"\n"


@pytest.mark.parametrize(("name", "place"), TRIES)
def test_a_bad_row_is_one_line_with_file_and_row(name, place, table):
    record, says = BAD_ROWS[name]
    path = table(with_bad(record, PLACES[place]))
    told = set()
    for chunk_bytes in CHUNKS:
        before = []
        with pytest.raises(InputError) as caught:
            for chunk in stream(path, COLUMNS, chunk_bytes=chunk_bytes):
                before += chunk.frame.rows()
        assert before == ROWS[: len(before)], "rows before the bad one, in order"
        told.add(str(caught.value))
    assert len(told) == 1, "the same for every size of chunk"
    message = told.pop()
    assert message.startswith(f"{path}:{PLACES[place] + 2}:")
    assert says in message
    assert "zqx" not in message and "canary" not in message
    assert "\n" not in message
    assert caught.value.exit_code == 3
    assert (caught.value.__cause__ is None and caught.value.__suppress_context__) or caught.value.__context__ is None


@pytest.mark.parametrize(("name", "place"), TRIES)
def test_a_bad_row_can_be_left_out_and_counted(name, place, table):
    record, _ = BAD_ROWS[name]
    path = table(with_bad(record, PLACES[place]))
    kept = [row for row in range(2, 10) if row != PLACES[place] + 2]
    for chunk_bytes in CHUNKS:
        chunks = list(stream(path, COLUMNS, on_bad_row="skip", max_bad=1, chunk_bytes=chunk_bytes, with_row=True))
        frame = pl.concat([chunk.frame for chunk in chunks])
        assert frame.drop("row").rows() == ROWS
        assert frame["row"].to_list() == kept
        assert frame.schema["row"] == pl.UInt64
        assert chunks[-1].bad == 1
        assert all(chunk.first_row == chunk.frame["row"][0] for chunk in chunks if chunk.frame.height)


def test_more_bad_rows_than_allowed_stop_at_the_first_that_is_too_much(table):
    bad = [b"x,1,a", b"1,2", b'1,"2', b"1,inf,a", b"1,2,\xff"]
    path = table(HEADER + b"\n".join(line for record in bad for line in (b"1,1,a", record)) + b"\n1,1,a\n")
    for chunk_bytes in CHUNKS:
        for most in range(5):
            with pytest.raises(InputError) as caught:
                list(stream(path, COLUMNS, on_bad_row="skip", max_bad=most, chunk_bytes=chunk_bytes))
            assert str(caught.value).startswith(f"{path}:{3 + 2 * most}:")
            assert most == 0 or f"{most} bad rows were left out before" in str(caught.value)
        chunks = list(stream(path, COLUMNS, on_bad_row="skip", max_bad=5, chunk_bytes=chunk_bytes))
        assert (sum(chunk.frame.height for chunk in chunks), chunks[-1].bad) == (6, 5), "rows = used + left out"


def test_a_long_row_does_not_hide_a_short_one(table):
    """Together they have the right number of separators; polars would fill the one and cut the other."""
    path = table(HEADER + b"1,1,a\n1,2,3,4\n1,1,a\n1,2\n1,1,a\n")
    for columns in ([ID], [UNIT], COLUMNS):
        with pytest.raises(InputError, match=r":3: 4 fields instead of 3"):
            read(path, columns)
        chunks = list(stream(path, columns, on_bad_row="skip", max_bad=2))
        assert (chunks[-1].frame.height, chunks[-1].bad) == (3, 2)


def test_separators_in_quotes_do_not_fill_a_short_row(table):
    with pytest.raises(InputError, match=r":3: 2 fields instead of 3"):
        read(table(HEADER + b'1,1,a\n1,"2,3"\n1,1,a\n'), [ID])


def test_a_short_last_row_tells_that_the_file_is_cut_off(table):
    content = HEADER + b"".join(f"{row}\n".encode() for row in SOUND)
    for cut, says in ((content[:-9], ":8: 2 fields instead of 3"), (content + b'9,2,"uni', ":9: a quote is opened and never closed")):
        for chunk_bytes in CHUNKS:
            with pytest.raises(InputError) as caught:
                read(table(cut), COLUMNS, chunk_bytes=chunk_bytes)
            assert f"{says} (the file looks cut off: download it again)" in str(caught.value)
    with pytest.raises(InputError) as caught:
        read(table(with_bad(b"1,2", 3)), COLUMNS)
    assert "cut off" not in str(caught.value)


def test_an_empty_field_is_bad_where_it_must_not_be(table):
    path = table(b'stay_id,x\n1,a\n,b\n"",c\n2,d\n')
    column = Column("stay_id", pl.Int64, nullable=False)
    with pytest.raises(InputError, match=r":3:stay_id: is empty"):
        read(path, [column])
    assert read(path, [column], on_bad_row="skip", max_bad=2)["stay_id"].to_list() == [1, 2]
    assert read(path, [Column("stay_id", pl.Int64)])["stay_id"].to_list() == [1, None, None, 2]


def test_a_bad_value_in_a_column_that_is_not_asked_for_does_no_harm(table):
    assert read(table(HEADER + b"1,inf,a\nx,2,b\n"), [UNIT])["valueuom"].to_list() == ["a", "b"]


def test_a_quote_left_open_in_a_large_file_costs_one_row(table):
    """Without another quote in the file everything behind would be one field: only its line is bad."""
    lines = [b"%d,1,a" % number for number in range(200_000)]
    lines[1000] = b'1000,1,"a'
    path = table(HEADER + b"\n".join(lines) + b"\n")
    with pytest.raises(InputError, match=r":1002: a quote is opened and never closed"):
        read(path, COLUMNS, chunk_bytes=1 << 16)
    chunks = list(stream(path, COLUMNS, on_bad_row="skip", max_bad=1, chunk_bytes=1 << 16))
    assert (sum(chunk.frame.height for chunk in chunks), chunks[-1].bad) == (199_999, 1)


# --- any text ---------------------------------------------------------------------------------------------------------

TOKENS = [b",", b"\n", b'"', b'""', b"\r", b"\r\n", b"a", b"b c", b"\xc3\xa9", b"\xff", b"\0", b'","', b'"a"', b'"x\ny",z\n', b"a,b\n"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.lists(st.sampled_from(TOKENS), max_size=25),
    width=st.integers(1, 3),
    chunk_bytes=st.sampled_from([1, 2, 3, 5, 8, 16, 64, 1 << 16]),
    asked=st.permutations("abc"),
)
def test_any_text_is_read_as_the_plain_reader_reads_it(tokens, width, chunk_bytes, asked, table):
    content = b",".join([b"a", b"b", b"c"][:width]) + b"\n" + b"".join(tokens)
    path = table(content)
    good, bad = strict_csv.records(content, width)
    columns = [Column(name, pl.String) for name in asked if name in "abc"[:width]]
    expected = [(*(fields["abc".index(column.name)].decode() or None for column in columns), row) for row, fields in good]
    chunks = list(stream(path, columns, on_bad_row="skip", max_bad=100, chunk_bytes=chunk_bytes, with_row=True))
    assert [row for chunk in chunks for row in chunk.frame.rows()] == expected
    assert (chunks[-1].bad if chunks else 0) == len(bad)
    if bad:
        with pytest.raises(InputError) as caught:
            read(path, columns, chunk_bytes=chunk_bytes)
        assert str(caught.value).startswith(f"{path}:{bad[0][0]}: ")


# Whatever a spreadsheet or database writes: text with marks in it, and no blank or NUL that the strict reader refuses in numbers.
TEXT = st.text(st.sampled_from('ab,"\n\r é毫 '), max_size=8)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
CELLS = st.tuples(st.none() | st.integers(-(2**63), 2**63 - 1), NUMBERS, st.none() | TEXT)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(CELLS, max_size=30),
    # QUOTE_MINIMAL leaves a carriage return bare where lines end in "\n": nobody can tell it from a line end.
    style=st.sampled_from([(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_NONNUMERIC, "\n")]),
    chunk_bytes=st.sampled_from([1, 7, 32, 1 << 16]),
)
def test_what_pythons_csv_writes_is_read_back(rows, style, chunk_bytes, table):
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=style[0], lineterminator=style[1])
    writer.writerow([column.name for column in COLUMNS])
    writer.writerows(rows)
    path = table(out.getvalue().encode())
    assert list(csv.reader(io.StringIO(out.getvalue(), newline=""), strict=True))[1:] == [
        ["" if cell is None else str(cell) for cell in row] for row in rows
    ]
    expected = [(number, value, text or None) for number, value, text in rows]
    assert read(path, COLUMNS, chunk_bytes=chunk_bytes).rows() == expected


# --- streaming --------------------------------------------------------------------------------------------------------


def test_chunks_carry_their_file_rows(table):
    path = table(HEADER + b"".join(f"{row}\n".encode() for row in SOUND * 20))
    row = 2
    for chunk in stream(path, COLUMNS, chunk_bytes=64, with_row=True):
        assert chunk.first_row == row
        assert chunk.frame["row"].to_list() == list(range(row, row + chunk.frame.height))
        row += chunk.frame.height
    assert row == 2 + 140


def test_progress_counts_the_bytes_of_the_file(table):
    path = table(HEADER + b"1,1,a\n" * 1000)
    bars = []

    class Bar(Silent):
        def __init__(self, description, total, unit):
            super().__init__()
            self.told = (description, total, unit)
            bars.append(self)

    assert sum(chunk.frame.height for chunk in stream(path, COLUMNS, chunk_bytes=256, progress=Bar)) == 1000
    size = path.stat().st_size
    assert [(bar.told, bar.n) for bar in bars] == [(("t.csv", size, "B"), size)]


def test_a_caller_that_stops_early_leaves_no_thread_behind(table):
    path = table(HEADER + b"1,1,a\n" * 100_000)
    before = threading.active_count()
    for _ in range(20):
        chunks = stream(path, COLUMNS, chunk_bytes=1 << 12)
        next(chunks)
        chunks.close()
    assert threading.active_count() == before


def test_a_wrong_policy_is_told(table):
    with pytest.raises(ConfigError, match="on_bad_row"):
        read(table(HEADER), COLUMNS, on_bad_row="ignore")
    with pytest.raises(ConfigError, match="dtype"):
        Column("charttime", pl.Datetime)


@pytest.mark.parametrize("name", ["CHARTEVENTS", "LABEVENTS", "D_ICD_DIAGNOSES", "D_ITEMS", "ADMISSIONS"])
def test_real_tables_are_read_cell_for_cell(name, mimic3demo):
    path = find(mimic3demo, name)
    plain = pl.read_csv(path, infer_schema=False)
    columns = [Column(name, pl.String) for name in plain.columns]
    assert read(path, columns).equals(plain)
    if plain.height < 20_000:
        assert read(path, columns, chunk_bytes=1000).equals(plain)


def test_real_text_of_mimic4_is_read_cell_for_cell(mimic4demo):
    path = find(mimic4demo, "chartevents")
    plain = pl.read_csv(path, infer_schema=False)
    assert plain["valueuom"].str.contains("°").any(), "not ASCII only"
    assert read(path, [Column(name, pl.String) for name in plain.columns], chunk_bytes=1 << 20).equals(plain)
