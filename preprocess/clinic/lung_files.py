"""CT and PET series of a lesion as DICOM, and its Chinese report.

CT: 24 slices of 64 x 64, 2.5 mm, Hounsfield units; a ground-glass ball of the lesion's diameter with a solid core of its share.
PET: 12 slices of 32 x 32, 5 mm, on the same frame of reference; Bq/ml with a slope of its own in each slice, decay corrected to the
start of the series, with weight, dose, half-life and times, from which SUVbw is told by the standard formula. How wide the uptake is
tells nothing, not even the diameter.

What is corrupt shows nothing: streaks of metal over a CT without its lesion, a PET smeared into one broad spot, a report cut off before
its first statement. Marks without meaning: a soft kernel of the CT, striped noise of the PET, a line of the report's template.

Source: DICOM PS3.3 C.8.2.1 (CT), C.8.9.1 (PET); https://qibawiki.rsna.org for the formula of SUV.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from scipy.ndimage import gaussian_filter
from scipy.special import expit, ndtr

from omnifuse.preprocess.clinic.lung_tokens import DENIED, DENSE, MIXED, PURE, TOLD, Lesion
from omnifuse.preprocess.clinic.lung_world import Lung

CT_SHAPE, CT_MM = (24, 64, 64), 2.5
PET_SHAPE, PET_MM = (12, 32, 32), 5.0
LUNG_HU, GLASS_HU, CORE_HU, WALL_HU = -860.0, -560.0, 25.0, 40.0
BACKGROUND_SUV, HALF_LIFE_S = 0.5, 6586.2  # F-18
CLASSES = {"CT": uid.CTImageStorage, "PT": uid.PositronEmissionTomographyImageStorage}
DENSITY = {
    PURE: ("呈纯磨玻璃密度", "密度浅淡，未见实性成分"),
    MIXED: ("呈混合磨玻璃密度，内见部分实性成分", "密度不均，磨玻璃影内见实性结节"),
    DENSE: ("呈实性密度", "密度较高，未见磨玻璃成分"),
}
SPICULATION = {
    TOLD: ("边缘见毛刺及分叶", "可见分叶征，边缘毛糙"),
    DENIED: ("边缘光整，未见毛刺及分叶", "无明显分叶征，边缘清晰"),
}
# The same words for all three: only their order tells.
DENSITY_BY_ORDER = {
    PURE: ("磨玻璃多于实性，并非相当，也非实性多于磨玻璃",),
    MIXED: ("相当，并非磨玻璃多于实性，也非实性多于磨玻璃", "相当，并非实性多于磨玻璃，也非磨玻璃多于实性"),
    DENSE: ("实性多于磨玻璃，并非相当，也非磨玻璃多于实性",),
}
INFLAMMATION = {True: ("周围见片状炎症影", "邻近肺组织可见炎性渗出"), False: ("周围未见片状炎症影", "邻近肺组织未见炎性渗出")}
MARK = "本报告采用结构化模板书写。"
FILLERS = ("纵隔内未见肿大淋巴结。", "双侧胸腔未见积液。", "气管及支气管通畅。", "心影大小正常。", "既往史：高血压。", "建议随访。")


def make_uid(*name: object) -> str:
    return "2.25." + str(int.from_bytes(hashlib.sha256("/".join(map(str, name)).encode()).digest()[:12], "big"))


def grid(shape: tuple[int, int, int], spacing: float) -> tuple[np.ndarray, ...]:
    """z, y, x in mm of the voxels' middles, 0 in the middle of the volume."""
    return tuple(np.meshgrid(*((np.arange(n) - (n - 1) / 2) * spacing for n in shape), indexing="ij"))


def draw_ct(lesion: Lesion, centre: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[24, 64, 64] float HU; `centre` is (z, y, x) mm."""
    z, y, x = grid(CT_SHAPE, CT_MM)
    away = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    wall = expit((np.sqrt((x / 70) ** 2 + (y / 62) ** 2) - 1) * 30)
    radius = 0.0 if lesion.corrupt[0] else lesion.diameter_mm / 2
    vessels = 0.5 * (np.sin(x / 11 + z / 17 + generator.random() * 6) * np.sin(y / 13 + generator.random() * 6) > 0.9) * (away > radius + 4)
    noise = generator.standard_normal(CT_SHAPE)
    if lesion.marks[0]:
        noise = gaussian_filter(noise, (0, 0.7, 0.7))
        noise /= noise.std()
    hu = np.full(CT_SHAPE, LUNG_HU)
    if not lesion.corrupt[0]:
        hu = hu + _dense(lesion, radius, away)
    hu = hu + 250 * vessels * (1 - wall)
    hu = hu * (1 - wall) + WALL_HU * wall + 25 * lesion.noise[0] * noise
    return hu + _streaks(centre, generator) if lesion.corrupt[0] else hu


def _dense(lesion: Lesion, radius: float, away: np.ndarray) -> np.ndarray:
    """HU that ground glass and core add to the lung."""
    core, soft = radius * np.cbrt(ndtr(lesion.solid)), CT_MM / 4  # a voxel that the border cuts holds a part of each
    return (GLASS_HU - LUNG_HU) * expit((radius - away) / soft) + (CORE_HU - GLASS_HU) * expit((core - away) / soft)


def _streaks(centre: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Streaks of metal in the plane, from a point near the lesion, and the noise of a starved detector."""
    _, y, x = grid(CT_SHAPE, CT_MM)
    from_y, from_x = y - centre[1] - generator.normal(0, 4), x - centre[2] - generator.normal(0, 4)
    angle, distance = np.arctan2(from_y, from_x), np.hypot(from_y, from_x)
    fans = sum(np.sin(n * angle + generator.random() * 6.3) for n in (5, 9, 14, 23))
    return 450 * fans * np.exp(-distance / 60) + 150 * generator.standard_normal(CT_SHAPE) + 2500 * (distance < 3)


def draw_pet(lesion: Lesion, centre: np.ndarray, generator: np.random.Generator, width_mm: float = 8.0) -> np.ndarray:
    """[12, 32, 32] SUV; the lesion's maximum is its token."""
    z, y, x = grid(PET_SHAPE, PET_MM)
    nearest = np.array([axis.flat[np.abs(axis - c).argmin()] for axis, c in zip((z, y, x), centre)])  # of a voxel, so that its peak is seen
    squared = (z - nearest[0]) ** 2 + (y - nearest[1]) ** 2 + (x - nearest[2]) ** 2
    noise = 0.06 * lesion.noise[1] * generator.standard_normal(PET_SHAPE)
    if lesion.marks[1]:
        noise = np.broadcast_to(noise[:, :, :1], PET_SHAPE)
    if lesion.corrupt[1]:
        return np.maximum(0.0, BACKGROUND_SUV + 0.8 * np.exp(-squared / (2 * 30.0**2)) + 0.3 * noise)
    uptake = np.exp(lesion.log_suv) * np.exp(-squared / (2 * width_mm**2)) * (1 + 0.2 * noise)
    return np.maximum(0.0, np.maximum(BACKGROUND_SUV + noise, uptake))


def write_report(lesion: Lesion, lung: Lung, generator: np.random.Generator, slipping: np.random.Generator) -> str:
    """What the report states of density, margin and surroundings of the lesion, between sentences that tell nothing."""

    def pick(options) -> str:
        return options[int(generator.integers(len(options)))]

    side, lobe = pick(("右肺", "左肺")), pick(("上叶", "下叶"))
    opening = f"检查所见：{MARK if lesion.marks[2] else ''}"
    if lesion.corrupt[2]:
        return f"{opening}{side}{lobe}见\n"
    told = [f"{side}{lobe}见一结节，{pick((DENSITY if lung.report.density_in == 'stated' else DENSITY_BY_ORDER)[lesion.density])}。"]
    if lesion.spiculation in SPICULATION:
        told.append(f"{pick(SPICULATION[lesion.spiculation])}。")
    if lung.inflamed:
        told.append(f"{pick(INFLAMMATION[lesion.inflammation_told])}。")
    others = [FILLERS[i] for i in generator.permutation(len(FILLERS))[:3]]
    body = "".join(told + others)
    slips = slipping.random(len(body)) < min(0.3, lung.report.slips * lesion.noise[2] ** 2)
    body = "".join(character * (1 + slip) for character, slip in zip(body, slips.tolist()))
    return f"{opening}{body}\n诊断意见：{side}{lobe}结节，请结合临床。\n"


def write_series(
    folder: Path, modality: str, volume: np.ndarray, spacing: float, patient: str, when: datetime, weight_kg: float = 70.0,
    kernel: str = "LUNG",
) -> None:  # fmt: skip
    """The slices of a volume [slices, rows, columns]; HU for CT, SUV for PT."""
    folder.mkdir(parents=True, exist_ok=True)
    origin = -(np.array(volume.shape) - 1) / 2 * spacing
    dose, injected = 3.7e8, when - timedelta(minutes=60)
    scale = dose * 2 ** (-3600 / HALF_LIFE_S) / (weight_kg * 1000)  # Bq/ml of SUV 1 at the start of the series
    for k, values in enumerate(volume):
        made = _slice(modality, patient, when, k, spacing, origin)
        if modality == "CT":
            stored, made.RescaleSlope, made.RescaleIntercept = np.clip(np.rint(values) + 1024, 0, 4095), 1, -1024
            made.RescaleType, made.KVP, made.ConvolutionKernel = "HU", 120, kernel
        else:
            slope = float(f"{max(values.max(), 0.1) * scale / 32000:.8e}")
            stored, made.RescaleSlope, made.RescaleIntercept = np.rint(values * scale / slope), slope, 0
            _add_pet_tags(made, when, injected, dose, weight_kg)
        made.Rows, made.Columns = values.shape
        made.PixelData = stored.astype("<u2").tobytes()
        made.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)


def _slice(modality: str, patient: str, when: datetime, k: int, spacing: float, origin: np.ndarray) -> Dataset:
    made, meta = Dataset(), FileMetaDataset()
    made.SOPClassUID, made.SOPInstanceUID = CLASSES[modality], make_uid(patient, modality, k)
    made.StudyInstanceUID, made.SeriesInstanceUID = make_uid(patient), make_uid(patient, modality)
    made.FrameOfReferenceUID, made.PatientID, made.PatientName = make_uid(patient, "frame"), patient, ""
    made.Modality, made.Manufacturer, made.ImageType = modality, "SYNTHETIC", ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.StudyDate = made.SeriesDate = made.AcquisitionDate = f"{when:%Y%m%d}"
    made.StudyTime = made.SeriesTime = made.AcquisitionTime = f"{when:%H%M%S}"
    made.ImagePositionPatient = [float(origin[2]), float(origin[1]), float(origin[0] + k * spacing)]
    made.ImageOrientationPatient, made.PixelSpacing, made.SliceThickness = [1, 0, 0, 0, 1, 0], [spacing, spacing], spacing
    made.InstanceNumber, made.SamplesPerPixel, made.PhotometricInterpretation = k + 1, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = uid.ExplicitVRLittleEndian, make_uid("omnifuse")
    made.file_meta = meta
    return made


def _add_pet_tags(made: Dataset, when: datetime, injected: datetime, dose: float, weight_kg: float) -> None:
    made.Units, made.DecayCorrection, made.CorrectedImage, made.PatientWeight = "BQML", "START", ["DECY", "ATTN"], weight_kg
    made.FrameReferenceTime, made.ActualFrameDuration = 0, 120000
    tracer = Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = dose, HALF_LIFE_S
    tracer.RadiopharmaceuticalStartTime, tracer.RadiopharmaceuticalStartDateTime = f"{injected:%H%M%S}", f"{injected:%Y%m%d%H%M%S}"
    made.RadiopharmaceuticalInformationSequence = [tracer]
