"""The page in a real browser: drawn, as wide as the screen and no wider, dark by night, nothing refused by its own policy."""

import html
import shutil
import subprocess

import numpy as np
import pytest
import simulated
from PIL import Image

from omnifuse.eval.report import build_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser to draw the page with ({', '.join(BROWSERS)})")


def browse(folder, *arguments: str) -> subprocess.CompletedProcess:
    folder.mkdir(parents=True)
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=folder)


@pytest.fixture(scope="module", params=[simulated.BINARY, simulated.MULTILABEL], ids=lambda task: task.kind)
def page(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    cohort, runs = simulated.write(folder, request.param, patients=120, names=" and_a_name_without_any_place_to_break_it_" * 2)
    report, _, _ = build_report(folder / "report", runs, cohort, resamples=40, commands=["omnifuse train " + "x" * 300])
    return report.file("report.html")


@pytest.mark.parametrize("night", [False, True], ids=["day", "night"])
def test_the_page_is_drawn(page, tmp_path, night):
    shot = tmp_path / "shot.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if night else []
    done = browse(tmp_path / "browser", *scheme, "--window-size=1200,2400", f"--screenshot={shot}", page.as_uri())
    picture = np.asarray(Image.open(shot).convert("L"), dtype=float)
    assert picture.shape == (2400, 1200)
    background = np.median(picture)
    assert background < 60 if night else background > 220
    assert (np.abs(picture - background) > 60).mean() > 0.01  # ink
    bands = np.abs(picture - background).reshape(6, 400, 1200).max((1, 2))
    assert (bands > 60).all()  # and all the way down
    assert "Content Security Policy" not in done.stderr


def test_the_page_is_no_wider_than_the_screen(page, tmp_path):
    """Measured from outside, in frames of the width of a phone and a desk; a headless window cannot be that narrow."""
    widths = (320, 400, 768, 1200)
    source = html.escape(page.read_text(), quote=True)
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{source}"></iframe>' for width in widths)
    script = """onload = () => { document.body.dataset.found = JSON.stringify([...document.querySelectorAll('iframe')].map(f =>
        [f.contentDocument.documentElement.scrollWidth, f.contentDocument.documentElement.scrollHeight])) }"""
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!doctype html><style>iframe {{ border: 0 }}</style><body>{frames}<script>{script}</script>")
    done = browse(tmp_path / "browser", "--window-size=1300,1000", "--virtual-time-budget=5000", "--dump-dom", outer.as_uri())
    found = done.stdout.split('data-found="')[1].split('"')[0]
    sizes = [tuple(map(int, pair.split(","))) for pair in found.strip("[]").split("],[")]
    assert len(sizes) == len(widths)
    for width, (drawn, height) in zip(widths, sizes):
        assert drawn <= width, f"{drawn} pixels wide on a screen of {width}"
        assert height > 2000
