"""Bring your own data: a YAML names tables, ids, labels and modalities, and a cohort is made of them (docs/tables.md).

grammar.py checker.py manifest.py label_section.py modality_section.py    the YAML, checked as a whole, to description.py
reading.py    the tables, their rows given to samples       samples.py   who is a sample, and who is left out why
cells.py      a cell to a number, a moment, or a reason     labels.py    cells to y
columns.py    one vector a sample                           series.py    long tables to bins
links.py volumes.py    films, DICOM series, texts, signals  leaks.py     columns that tell the label by themselves
build.py      composes them
"""
