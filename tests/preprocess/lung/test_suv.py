"""SUVbw from headers: golden factors of four vendors, every branch of the decision order, and what must be refused by its tag."""

import json
import math
from dataclasses import replace
from pathlib import Path

import dicoms
import pytest
from pydicom.dataset import Dataset

from omnifuse.preprocess.lung import suv
from omnifuse.preprocess.lung.pet_header import PetSlice, read_pet
from omnifuse.preprocess.lung.series import list_files, scan
from omnifuse.preprocess.lung.suv import compute_suv
from omnifuse.preprocess.schema import Unreadable

HALF_LIFE = 6586.2
PLAIN = PetSlice(
    units="BQML", decay_correction="START", corrected=("DECY", "ATTN"), weight_kg=70.0, dose_bq=3.7e8, half_life_s=HALF_LIFE,
    start_time="090000", series_date="20200101", series_time="100000", acquisition_date="20200101", acquisition_time="100000",
)  # fmt: skip


def factor_after(seconds: float) -> float:
    return 70 * 1000 / (3.7e8 * 2 ** (-seconds / HALF_LIFE))


GOLDEN = ["PHILIPS_BQML", "SIEMENS", "GE_MEDICAL_AND_BQML", "CPS_AND_BQML_AC_DT_-_S_DT"]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_factors(name, real):
    folder = real("suv_headers")
    expected = json.loads((folder / "expected.json").read_text())[name]
    slices = [read_pet(_header(told)) for told in json.loads((folder / f"{name}-instances.json").read_text())]
    for factor in compute_suv(slices).factors:
        assert factor == pytest.approx(expected, rel=1e-9)


def _header(told: dict) -> Dataset:
    """A header with the values of the JSON, in the places they have in DICOM."""
    header, drug = Dataset(), Dataset()
    inner = ("RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime")
    for key, value in told.items():
        if key == "PhilipsPETPrivateGroup":
            _add_philips(header, value.get("SUVScaleFactor"), value.get("ActivityConcentrationScaleFactor"))
        else:
            setattr(drug if key in inner else header, key, value)
    header.RadiopharmaceuticalInformationSequence = [drug]
    return header


def _add_philips(header: Dataset, to_suv: str | None, to_activity: str | None) -> None:
    block = header.private_block(0x7053, "Philips PET Private Group", create=True)
    for element, value in ((0x00, to_suv), (0x09, to_activity)):
        if value is not None:
            block.add_new(element, "DS", value.strip())


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 3600),
        ({"series_time": "101500", "acquisition_time": "100000"}, 3600),  # saved again later: the first acquisition counts
        ({"series_time": "095500"}, 3300),
        ({"series_date": "20200105"}, 3600),  # post-processed days later
        ({"series_time": "120000", "ge_scan": "20200101100500.00"}, 3900),
        ({"ge_scan": "20200101100500.00"}, 3600),  # the series' time fits: GE's is not asked
        ({"start_datetime": "20200101083000.00"}, 5400),
        ({"start_datetime": "20200101083000.00+0800"}, 5400),
        ({"start_datetime": "20200101083000", "start_time": "090000"}, 5400),
        ({"start_time": "233000", "series_time": "003000", "acquisition_time": "003000"}, 3600),  # over midnight
        ({"start_time": "0900"}, 3600),
        ({"start_time": "090000.500000"}, 3599.5),
        ({"decay_correction": "ADMIN"}, 0),
        ({"decay_correction": "ADMIN", "start_time": None, "series_time": None, "acquisition_time": None}, 0),
    ],
)
def test_decay_runs_between_the_right_times(changes, seconds):
    told = compute_suv([replace(PLAIN, **changes)])
    assert told.factors[0] == pytest.approx(factor_after(seconds), rel=1e-12)
    assert not told.warnings


def test_the_earliest_acquisition_of_all_slices_counts():
    slices = [replace(PLAIN, series_time="110000", acquisition_time=at) for at in ("103000", "101000", "102000")]
    assert compute_suv(slices).factors == pytest.approx([factor_after(4200)] * 3, rel=1e-12)


@pytest.mark.parametrize("date", ["20200102", "20191231", "20250101"])
def test_a_shifted_date_of_injection_is_set_aside(date):
    """The clock says 90 minutes; the date, which de-identification moved, says days."""
    told = compute_suv([replace(PLAIN, start_datetime=f"{date}083000", start_time="083000")])
    assert told.factors[0] == pytest.approx(factor_after(5400), rel=1e-12)
    assert told.warnings == (suv.DATE_SHIFTED,)


def test_a_long_lived_nuclide_may_be_scanned_days_later():
    half_life = 12.7 * 3600
    told = compute_suv([replace(PLAIN, half_life_s=half_life, start_datetime="20191230100000")])
    assert told.factors[0] == pytest.approx(70 * 1000 / (3.7e8 * 2 ** (-48 * 3600 / half_life)), rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "factor", "warnings"),
    [
        ({"units": "GML", "suv_type": "BW"}, 1.0, ()),
        ({"units": "GML"}, 1.0, (suv.SUV_TYPE_UNTOLD,)),
        ({"units": "GML", "suv_type": "BW", "dose_bq": None, "weight_kg": None, "decay_correction": None}, 1.0, ()),
        ({"units": "CNTS", "philips_suv": 0.0035, "philips_activity": 4.7}, 0.0035, ()),
        ({"units": "CNTS", "philips_suv": 0.0, "philips_activity": 4.7}, 4.7 * factor_after(3600), ()),
        ({"units": "CNTS", "philips_activity": 4.7}, 4.7 * factor_after(3600), ()),
        ({"units": "BQML", "philips_suv": 0.0035, "philips_activity": 4.7}, factor_after(3600), ()),
        ({"weight_kg": None, "mode": "none"}, 1.0, ()),
        ({"weight_kg": None, "assume_weight_kg": 70.0}, factor_after(3600), (suv.WEIGHT_ASSUMED,)),
        ({"weight_kg": 35.0, "assume_weight_kg": 70.0}, factor_after(3600) / 2, ()),
        ({"dose_bq": 3.7e6}, factor_after(3600) * 100, (suv.DOSE_UNUSUAL,)),
    ],
)
def test_units_and_vendor_factors(changes, factor, warnings):
    options = {name: changes[name] for name in ("mode", "assume_weight_kg") if name in changes}
    told = compute_suv([replace(PLAIN, **{name: value for name, value in changes.items() if name not in options})], **options)
    assert told.factors[0] == pytest.approx(factor, rel=1e-12)
    assert told.warnings == warnings


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"units": "PROPCPS"}, "PROPCPS"),
        ({"units": "CNTS"}, "(7053,1000)"),
        ({"units": None}, "Units (0054,1001) is missing"),
        ({"units": "smith"}, "unknown"),
        ({"units": "GML", "suv_type": "LBM"}, "SUVType (0054,1006)"),
        ({"units": "GML", "suv_type": "BSA"}, "SUVType (0054,1006)"),
        ({"decay_correction": "NONE"}, "DecayCorrection (0054,1102) is NONE"),
        ({"decay_correction": None}, "DecayCorrection (0054,1102) is missing"),
        ({"corrected": ("DECY",)}, "ATTN"),
        ({"corrected": ("ATTN",)}, "DECY"),
        ({"corrected": None}, "CorrectedImage (0028,0051)"),
        ({"weight_kg": None}, "PatientWeight (0010,1030)"),
        ({"weight_kg": 0.0}, "PatientWeight (0010,1030)"),
        ({"weight_kg": 70000.0}, "grams"),
        ({"dose_bq": None}, "RadionuclideTotalDose (0018,1074)"),
        ({"dose_bq": 0.0}, "RadionuclideTotalDose (0018,1074)"),
        ({"dose_bq": 370.0}, "MBq"),
        ({"half_life_s": None}, "RadionuclideHalfLife (0018,1075)"),
        ({"half_life_s": 0.0}, "RadionuclideHalfLife (0018,1075)"),
        ({"half_life_s": 109.77}, "minutes"),
        ({"start_time": None}, "(0018,1078; 0018,1072)"),
        ({"start_time": "abc"}, "(0018,1078; 0018,1072)"),
        ({"acquisition_time": None}, "0008,0032"),
        ({"start_time": "100100"}, "12 hours"),  # a minute after the scan, so a day before it
        ({"start_datetime": "20200101213000", "start_time": "213000"}, "12 hours"),
    ],
)
def test_what_cannot_be_suv_is_refused_by_its_tag(changes, reason):
    with pytest.raises(Unreadable) as caught:
        compute_suv([replace(PLAIN, **changes)])
    assert reason in caught.value.reason
    assert "smith" not in caught.value.reason and "abc" not in caught.value.reason


@pytest.mark.parametrize("field", ["weight_kg", "dose_bq", "half_life_s"])
def test_slices_of_one_series_must_agree(field):
    with pytest.raises(Unreadable, match="disagree"):
        compute_suv([PLAIN, replace(PLAIN, **{field: getattr(PLAIN, field) * 1.5})])


@pytest.mark.parametrize(("reference_ms", "warned"), [(0.0, False), (60_000.0, False), (1_328_700.0, True)])
def test_frame_times_are_only_a_cross_check(reference_ms, warned):
    told = compute_suv([replace(PLAIN, frame_reference_ms=reference_ms, frame_duration_ms=120_000.0)])
    assert told.factors[0] == pytest.approx(factor_after(3600), rel=1e-12)
    assert (suv.FRAME_TIMES in told.warnings) == warned


def test_private_tags_are_found_by_their_creator():
    header = Dataset()
    other = header.private_block(0x7053, "SOMEBODY ELSE", create=True)
    other.add_new(0x00, "DS", "9.9")
    _add_philips(header, "0.0035", "4.7")
    header.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20200101100500.00")
    told = read_pet(header)
    assert (told.philips_suv, told.philips_activity, told.ge_scan) == (0.0035, 4.7, "20200101100500.00")


def test_acquisition_datetime_stands_in_for_date_and_time():
    header = Dataset()
    header.AcquisitionDateTime = "20200101100530.25+0800"
    told = read_pet(header)
    assert (told.acquisition_date, told.acquisition_time) == ("20200101", "100530.25")


def test_a_slice_without_its_time_does_not_spoil_the_series():
    assert compute_suv([PLAIN, replace(PLAIN, acquisition_time=None)]).factors[0] == pytest.approx(factor_after(3600), rel=1e-12)


def test_implicit_private_values_come_as_bytes(tmp_path: Path):
    made = dicoms.image(0, dicoms.ball(1, 4, 4)[0], modality="PT")
    made.add_new(0x70530010, "LO", "Philips PET Private Group")
    made.add_new(0x70531000, "UN", b"0.0035 ")
    assert read_pet(made).philips_suv == 0.0035


def test_the_real_series_gives_plausible_suv(real):
    root = real("petct_sts001").parent
    series = scan(root, list_files(root, "petct_sts001/pet")).of("PT")[0]
    told = compute_suv([piece.pet for piece in series.slices])
    assert told.factors[0] == pytest.approx(2.429030e-4, rel=1e-6)
    assert not told.warnings
    assert len({piece.slope for piece in series.slices}) > 50  # a slope for each slice
    assert not math.isclose(series.slices[0].slope, series.slices[-1].slope)
