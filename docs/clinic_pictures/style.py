"""How the pictures of the clinic look: colours of Okabe and Ito (2008), which the colour-blind tell apart, and small PNG files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

INK, SOFT, LINE, PAPER = "#1d2730", "#5c6b78", "#d5dce2", "#ffffff"
BLUE, ORANGE, GREEN, PINK, BROWN, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"
MODALITY_COLOURS = {"ehr": BLUE, "cxr": ORANGE, "rep": GREEN, "sig": PINK}
MODALITY_NAMES = {"ehr": "tables", "cxr": "films", "rep": "reports", "sig": "signals"}
DPI, COLOURS = 110, 256
STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "grid.color": LINE, "grid.linewidth": 0.7, "legend.frameon": False, "figure.facecolor": PAPER, "axes.facecolor": PAPER,
    "text.parse_math": False,
}  # fmt: skip


def styled():
    """The context in which every picture is drawn, whatever the reader's own settings."""
    return rc_context(STYLE)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, without a window."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path, colours: int | None = COLOURS) -> None:
    """A PNG with a palette of its own, a third of the size; None where a colour scale would show steps."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    with Image.open(drawn) as image:
        flat = image.convert("RGB")
        if colours:
            flat = flat.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        flat.save(path, optimize=True)


def bare(axes, *, box: bool = False) -> None:
    """No ticks; with `box` a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(box)
        spine.set_color(LINE)
