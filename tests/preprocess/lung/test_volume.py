"""Items to slices: HU, windows, padding before interpolation, geometry in millimetres, SUV, and what cannot be decoded."""

import dicoms
import numpy as np
import pytest

from omnifuse.preprocess.lung import hu, volume
from omnifuse.preprocess.lung.geometry import Stack, interpolate, locate_box, normal_of, pixel_to_mm
from omnifuse.preprocess.lung.imaging import _crop, describe_stack, whole_stack
from omnifuse.preprocess.lung.lesions import Place
from omnifuse.preprocess.lung.series import list_files, scan
from omnifuse.preprocess.schema import ConfigError, Unreadable

AXES = np.array(dicoms.AXIAL)


def settings(**told):
    return {**volume.DEFAULTS, **told}


def item_of(root, folder, centre=None, factors=None, grid=None):
    series = scan(root, list_files(root, folder)).series[0]
    box = whole_stack(series.stack) if centre is None else _crop(series.stack, Place(tuple(centre)))
    if grid is not None:
        box["grid"] = list(grid)
    return {**describe_stack(series, factors or [1.0] * len(series.slices)), **box}


def ramp(count=12, rows=32, columns=32):
    """Stored values that tell their place: 100 * slice + row + column / 32, times 10 (whole numbers of tenths)."""
    k, row, column = np.ogrid[:count, :rows, :columns]
    return (100 * k + 2 * row + column).astype(np.int16)


def test_values_are_interpolated_at_their_millimetres(tmp_path):
    """A field that is linear in the place is met exactly, between slices and pixels too."""
    stored = ramp()
    dicoms.write_series(tmp_path / "ct", values=lambda k: stored[k])
    centre = (-10.0, -5.0, 15.0)
    told = settings(slices=5, size=16, crop_mm=16.0)
    got = volume.sample(tmp_path, item_of(tmp_path, "ct", centre), told)
    z = 15 + ((np.arange(5) + 0.5) / 5 - 0.5) * 16
    at = ((np.arange(16) + 0.5) / 16 - 0.5) * 16
    expected = (100 * z / 3)[:, None, None] + (2 * (at - 5 + 32) / 2)[None, :, None] + ((at - 10 + 32) / 2)[None, None, :]
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_a_thin_and_a_thick_series_show_the_same_places(tmp_path):
    """Slices are chosen by position: 1 mm and 5 mm series of one linear body give the same planes."""
    body = lambda step: lambda k: np.full((32, 32), round(10 * step * k), np.int16)
    dicoms.write_series(tmp_path / "thin", count=61, step=1.0, values=body(1))
    dicoms.write_series(tmp_path / "thick", count=13, step=5.0, values=body(5))
    told = settings(slices=8, size=16, crop_mm=40.0)
    thin, thick = (volume.sample(tmp_path, item_of(tmp_path, name, (0, 0, 30)), told) for name in ("thin", "thick"))
    np.testing.assert_allclose(thin, thick, atol=1e-2)


@pytest.mark.parametrize("orientation", [dicoms.AXIAL, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)])
def test_a_box_along_other_axes_finds_the_same_points(tmp_path, orientation):
    """The slow general way and the fast parallel one agree where both can be taken, and along foreign axes points keep their place."""
    stored = dicoms.ball(12, 32, 32, 900)
    dicoms.write_series(tmp_path / "ct", values=lambda k: stored[k], axes=orientation)
    series = scan(tmp_path, ["ct/" + path.name for path in sorted((tmp_path / "ct").iterdir())]).series[0]
    centre, shape = series.stack.middle(), (4, 8, 8)
    fast = locate_box(series.stack, centre, series.stack.axes, (12, 12, 12), shape)
    tilted = series.stack.axes.copy()
    tilted[:3] += 1e-5 * normal_of(tilted)  # not parallel any more
    slow = locate_box(series.stack, centre, tilted, (12, 12, 12), shape)
    assert fast[0].shape == (4, 1, 1) and slow[0].shape == shape
    np.testing.assert_allclose(interpolate(stored.astype(np.float32), fast, -1), interpolate(stored.astype(np.float32), slow, -1), atol=0.5)


def test_gantry_tilt_moves_the_rows(tmp_path):
    """Slices whose places shift within the plane: the point is found by its millimetres, not by its row."""
    edit = lambda k, image: setattr(image, "ImagePositionPatient", [-32.0, -32.0 + 2.0 * k, 3.0 * k])
    stored = np.zeros((12, 32, 32), np.int16)
    for k in range(12):
        stored[k, 16 - k, 16] = 1000  # one point of the patient, (0, 0)
    dicoms.write_series(tmp_path / "ct", values=lambda k: stored[k], edit=edit)
    got = volume.sample(tmp_path, item_of(tmp_path, "ct", (0.0, 0.0, 15.0)), settings(slices=1, size=17, crop_mm=8.5))
    assert got[0, 8, 8] == pytest.approx(1000, abs=1)


def test_pixel_to_mm_counts_columns_along_the_first_axis():
    assert list(pixel_to_mm((1, 2, 3), AXES, (0.5, 2.0), row=4, column=10)) == [21.0, 4.0, 3.0]


@pytest.mark.parametrize(("point", "inside"), [((0, 0, 15), True), ((0, 0, 34), True), ((0, 0, 36), False), ((40, 0, 15), False)])
def test_a_stack_holds_points_up_to_half_a_step_outside(point, inside):
    stack = Stack(np.array([[-32.0, -32.0, 3.0 * k] for k in range(12)]), AXES, (2.0, 2.0), 32, 32)
    assert stack.holds(point) == inside


def test_across_a_wide_gap_the_nearest_slice_is_shown(tmp_path):
    paths = dicoms.write_series(tmp_path / "ct", count=12, values=lambda k: np.full((32, 32), 100 * k))
    for path in paths[3:9]:
        path.unlink()  # slices 2 (6 mm) and 9 (27 mm) remain around the gap
    item = item_of(tmp_path, "ct", (0, 0, 16.5))
    assert set(np.unique(volume.sample(tmp_path, item, settings(slices=6, size=16, crop_mm=12.0)))) == {200.0, 900.0}
    blended = volume.sample(tmp_path, item, settings(slices=6, size=16, crop_mm=12.0, max_gap_mm=50.0))
    assert len(np.unique(blended.round(3))) == 6


def test_padding_is_air_before_interpolation(tmp_path):
    """A bright padding value would bleed into its neighbours; below -1024 HU is air as well."""
    values = np.zeros((32, 32), np.int16)
    values[:, 16:] = 2000
    edit = lambda k, image: image.update({"PixelPaddingValue": 2000})
    dicoms.write_series(tmp_path / "ct", values=lambda k: values, edit=edit)
    got = volume.sample(tmp_path, item_of(tmp_path, "ct", (0, 0, 15)), settings(slices=1, size=32, crop_mm=16.0))
    assert got.min() == -1024 and got.max() == 0


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "padding", "limit", "expected"),
    [
        (1000, 1, -1024, None, None, -24),
        (1000, 2.5, -1024, None, None, 1476),
        (-5000, 1, 0, None, None, -1024),
        (-2000, 1, 0, -2000, None, -1024),
        (63536, 1, -1024, 63536, None, -1024),
        (64000, 1, -1024, 63536, 65535, -1024),
        (10, 1, 0, 0, 5, 10),
    ],
)
def test_hu(stored, slope, intercept, padding, limit, expected):
    assert hu.to_hu(np.array([[stored]]), slope, intercept, padding, limit) == expected


@pytest.mark.parametrize(
    ("window", "low", "middle", "high"), [("lung", -1350, -600, 150), ("mediastinum", -160, 40, 240), ("bone", -450, 300, 1050)]
)
def test_windows(window, low, middle, high):
    values = np.array([[[low - 100, low, middle, high, high + 100]]], np.float32)
    assert hu.through_windows(values, [window])[0, 0, 0].tolist() == [0, 0, 128, 255, 255]


def test_ct_has_a_channel_for_each_window_and_pet_one(tmp_path):
    dicoms.write_series(tmp_path / "ct", intercept=-1024.0, values=lambda k: np.full((32, 32), 1064))
    item = item_of(tmp_path, "ct")
    told = settings(slices=3, size=16)
    got = volume.decode(tmp_path, item, told)
    assert got.shape == (3, *volume.shape(told)) == (3, 3, 16, 16) and got.dtype == volume.dtype(told)
    assert got[1, :, 8, 8].tolist() == [236, 128, 83]  # 40 HU through lung, mediastinum, bone
    assert volume.shape(settings(kind="pet")) == (1, 224, 224)


def test_suv_is_clipped_and_scaled_by_slice(tmp_path):
    """Each slice has its own slope; one slope for all would give another maximum."""
    edit = lambda k, image: setattr(image, "RescaleSlope", float(k + 1))
    dicoms.write_series(tmp_path / "pet", modality="PT", values=lambda k: np.full((32, 32), 1000), edit=edit)
    item = item_of(tmp_path, "pet", factors=[1e-3] * 12)
    told = settings(kind="pet", slices=12, size=16)
    values = volume.sample(tmp_path, item, told)
    np.testing.assert_allclose(values[:, 8, 8], 1 + 11 * (np.arange(12) + 0.5) / 12, rtol=1e-4)
    got = volume.decode(tmp_path, item, told)[:, 0, 8, 8]
    assert got[-1] == 255 and got[4] == pytest.approx(255 * values[4, 8, 8] / 10, abs=0.51)


def test_pet_is_sampled_at_the_points_of_the_ct(tmp_path):
    """A hot voxel of a coarse PET shows where the CT has its own bright voxel, although their grids differ."""
    ct, pet = np.zeros((12, 32, 32), np.int16), np.zeros((10, 16, 16), np.int16)
    ct[5, 20, 12] = 1000  # (-8, 8, 15)
    pet[5, 9, 7] = 1000  # (-8, 8, 15) with 4 mm pixels from -36 and slices from -5 every 4
    dicoms.write_series(tmp_path / "ct", values=lambda k: ct[k])
    dicoms.write_series(
        tmp_path / "pet", modality="PT", series="pet", count=10, rows=16, columns=16, values=lambda k: pet[k], origin=(-36, -28, -5),
        spacing=(4.0, 4.0), step=4.0,
    )  # fmt: skip
    told = settings(slices=5, size=33, crop_mm=33.0)
    centre = (-8.0, 8.0, 15.0)
    for name in ("ct", "pet"):
        got = volume.sample(tmp_path, item_of(tmp_path, name, centre, grid=AXES), {**told, "kind": name})
        assert np.unravel_index(got.argmax(), got.shape) == (2, 16, 16)


def test_a_fine_image_is_blurred_before_it_is_made_small(tmp_path):
    """A checkerboard of single pixels, shown at a quarter, is grey and not a pattern of its own."""
    board = (np.indices((128, 128)).sum(0) % 2 * 1000).astype(np.int16)
    dicoms.write_series(tmp_path / "ct", count=3, rows=128, columns=128, values=lambda k: board)
    got = volume.sample(tmp_path, item_of(tmp_path, "ct"), settings(slices=1, size=32))
    assert got.std() < 30 and got.mean() == pytest.approx(500, abs=10)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-500])


def other_size(path):
    made = dicoms.image(0, np.zeros((16, 16)))
    dicoms.save(made, path)


@pytest.mark.parametrize("spoil", [cut_off, other_size, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_slice_that_changed_since_is_named_without_its_name(tmp_path, spoil):
    last = dicoms.write_series(tmp_path / "ct")[-1]
    item = item_of(tmp_path, "ct")
    spoil(last)
    with pytest.raises(Unreadable) as caught:
        volume.decode(tmp_path, item, settings(slices=12, size=16))
    assert last.name not in caught.value.reason and "CANARY" not in caught.value.reason


def test_a_box_outside_of_the_series_is_refused(tmp_path):
    dicoms.write_series(tmp_path / "ct")
    with pytest.raises(Unreadable, match="outside"):
        volume.decode(tmp_path, item_of(tmp_path, "ct", (0, 0, 900)), settings(slices=2, size=16))


@pytest.mark.parametrize("told", [{"size": 2}, {"slices": 0}, {"windows": ["liver"]}, {"windows": []}, {"kind": "mr"}, {"suv_max": 0}])
def test_settings_that_make_no_slices_are_refused(told):
    with pytest.raises(ConfigError):
        volume.shape(settings(**told))


def test_the_real_pet_and_ct_agree(real):
    """In real data the body of the CT is where the PET has activity: both on the CT's points, at the middle of the CT."""
    root = real("petct_sts001").parent
    ct, pet = (scan(root, list_files(root, f"petct_sts001/{name}")).series[0] for name in ("ct", "pet"))
    box = whole_stack(ct.stack)
    told = settings(slices=6, size=48)
    density = volume.sample(root, {**describe_stack(ct, [1.0] * 20), **box}, told)
    activity = volume.sample(root, {**describe_stack(pet, [2.429030e-4] * 59), **box}, {**told, "kind": "pet"})
    body = density > -200
    assert 0.1 < body.mean() < 0.9
    assert activity[body].mean() > 5 * activity[density < -800].mean()
    assert 2 < activity.max() < 60
