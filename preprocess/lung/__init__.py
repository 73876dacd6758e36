"""Lung CT, PET and reports: from a manifest of lesions to a cohort.

manifest.py    rows of the manifest           reports.py    text: dates, encoding, sections
options.py     what can be chosen             leaks.py      what gives the label away
headers.py     one DICOM file, or why none    series.py     files to series in order, and the choice among them
pet_header.py  activity and times of a PET    pet_times.py  when it was measured and injected
suv.py         stored PET values to SUVbw     hu.py         CT values and windows
geometry.py    millimetres and indices        lesions.py    where the lesion is
field.py       the lung field                 imaging.py    the CT and PET of a lesion, as items
volume.py      items to slices (the decoder)  tcia.py       a manifest from TCIA's Lung-PET-CT-Dx
audit.py       what was found                 build.py      composes them
"""
