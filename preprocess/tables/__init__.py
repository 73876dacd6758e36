"""The one reader of CSV, CSV.GZ and Parquet: schema checked, strict, streaming.

    columns.py  what is asked, and the header        source.py   bytes: regular files, gzip, encodings
    text.py     pieces of text and their marks       records.py  whole records, strict quotes
    block.py    a block to a frame, or bad records   parquet.py  the same promises for Parquet
    reader.py   stream, read, header, find           times.py    date-times

Legal: upper- or lower-case headers, any order of columns, a BOM, CRLF, quoted line breaks, concatenated gzip members, no line break at
the end. Null is the empty field and nothing else: "None", "NA" and "nan" are text. Everything else is an InputError with file:row, or, with
on_bad_row="skip", a counted bad row. No message holds a value.
"""

from omnifuse.preprocess.tables.columns import Column
from omnifuse.preprocess.tables.reader import Chunk, find, header, read, stream
from omnifuse.preprocess.tables.times import DATETIME_FORMATS, parse_datetime, try_datetime

__all__ = ["DATETIME_FORMATS", "Chunk", "Column", "find", "header", "parse_datetime", "read", "stream", "try_datetime"]
