"""omnifuse preprocess lung: a manifest of lung lesions, with CT, PET and reports, to a cohort."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from omnifuse import console, options, preparations, workspace
from omnifuse.preprocess.schema import ConfigError

path = click.Path(path_type=Path)


@click.command(name="lung")
@click.option(
    "--manifest", type=path, default=None, metavar="FILE", help="CSV or Parquet with one row a lesion.  [default: the workspace's]"
)
@click.option("--root", type=path, default=None, metavar="DIR", help="What its paths are relative to.  [default: the manifest's folder]")
@click.option(
    "--tcia", type=path, default=None, metavar="DIR", help="Make the manifest from a download of Lung-PET-CT-Dx, as DIR/manifest.csv."
)
@options.out
@click.option("--classes", type=click.Choice(["3", "6", "histology"]), help="L1 to L3, the six subtypes, or histology.  [default: 3]")
@click.option(
    "--crop", type=click.Choice(["auto", "lesion", "field"]), help="A box around each placed lesion, else the lung field.  [default: auto]"
)
@click.option("--crop-mm", type=click.FloatRange(5, 500), help="Side of the box.  [default: 64]")
@click.option("--slices", type=click.IntRange(1, 512), help="Slices of a volume.  [default: 24]")
@click.option("--size", type=click.IntRange(16, 1024), help="Rows and columns of a slice.  [default: 224]")
@click.option("--windows", metavar="NAME[,NAME]", help="Windows of the CT, a channel each.  [default: lung,mediastinum,bone]")
@click.option("--suv", type=click.Choice(["bw", "none"]), help="PET in SUV by body weight, or in Bq/ml.  [default: bw]")
@click.option("--suv-max", type=click.FloatRange(0.1, 1000), help="Where SUV is clipped.  [default: 10]")
@click.option("--assume-weight", type=click.FloatRange(1, 500), metavar="KG", help="For a PET without the patient's weight.")
@click.option("--ct-series-rule", metavar="RULE[,RULE]", help="Which of several CT series is taken.  [default: thin,lung,plain]")
@click.option("--other-frame", type=click.Choice(["drop", "own"]), help="A PET on another frame of reference than the CT.  [default: drop]")
@click.option("--sections", metavar="NAME[,NAME]", help="Sections of the reports, in this order.  [default: all but pathology]")
@click.option("--max-chars", type=click.IntRange(1, 200_000), help="Characters of a report.  [default: 1748]")
@click.option("--encoding", metavar="NAME", help="Of the manifest and the reports, such as gb18030.  [default: utf-8]")
@click.option(
    "--undated-reports", type=click.Choice(["drop", "keep"]), help="Reports that no date shows to be before the pathology.  [default: drop]"
)
@click.option("--on-bad-series", type=click.Choice(["skip", "error"]), help="Count series that cannot be used, or stop.  [default: skip]")
@click.option("--splits", type=path, metavar="FILE", help="A frozen list of patients and parts (CSV).")
@click.option("--split", type=click.Choice(["hash", "temporal"]), help="How folds are made without --splits.  [default: hash]")
@click.option("--assign-new", is_flag=True, default=None, help="Split patients by hash that the frozen list lacks.")
@options.common
def command(
    manifest: Path | None, root: Path | None, tcia: Path | None, out: Path | None, as_json: bool, dry_run: bool, seed: int | None,
    sets: tuple[str, ...], **given,
) -> None:  # fmt: skip
    """A manifest of lung lesions to a cohort: CT and PET cut around each lesion, reports, subtypes, folds.

    Series are ordered by position, CT becomes HU, PET becomes SUVbw, and what cannot be used is counted by its reason. Reports
    count only where they are dated before the pathology. What gives the label away (words, scanner) is measured and printed.

    \b
    Example:
      omnifuse preprocess lung --manifest lesions.csv --root /data/lung --out cohorts/lung
      omnifuse preprocess lung --tcia /data/Lung-PET-CT-Dx --classes histology --out cohorts/lung-dx
    """
    from omnifuse.preprocess.lung import build

    space = workspace.find()
    resolved = preparations.options("lung", space, given, sets, seed)
    target = out or space.output("cohorts", "lung")
    if dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            manifest, root = _manifest(space, manifest, root, tcia, Path(scratch))
            _show_plan(build.describe_plan(manifest, root, resolved), target, as_json)
        return
    manifest, root = _manifest(space, manifest, root, tcia, tcia)
    cohort = build.build_cohort(manifest, root, target, resolved, progress=console.progress)
    audit = cohort.json("audit.json")
    if not as_json:
        _show(cohort.meta, audit)
        console.say(f"\ncohort: {console.place(target)}")
    console.finish(as_json, {"cohort": str(target), "meta": cohort.meta, "audit": audit})


def _manifest(
    space: workspace.Workspace, manifest: Path | None, root: Path | None, tcia: Path | None, home: Path | None
) -> tuple[Path, Path]:
    """The manifest (told, or the workspace's) and what its paths are relative to; that of a TCIA download is written into `home` first."""
    setting = space.settings.values["manifest"]
    if manifest is None and tcia is None and setting is not None:
        manifest = space.require() / str(setting)
    if (manifest is None) == (tcia is None):
        raise ConfigError("one of --manifest and --tcia is needed", hint="--manifest FILE, with a row a lesion: see docs/tasks.md")
    if tcia is None:
        return manifest, root or manifest.absolute().parent
    from omnifuse.preprocess.lung.tcia import write_manifest

    made = home / "manifest.csv"
    rows = write_manifest(tcia, made, console.progress)
    console.note(f"{rows:,} patients of the download stand in {console.place(made) if home == tcia else 'its manifest'}")
    return made, root or tcia


def _show_plan(plan: dict, target: Path, as_json: bool) -> None:
    from omnifuse.preprocess import store

    if not as_json:
        console.say(f"would read {plan['manifest']}: {plan['lesions']:,} lesions of {plan['patients']:,} patients")
        told = [(name, plan[name]) for name in ("ct_series", "pet_series", "report", "placed", "files")]
        console.table([*told, ("size", console.size(plan["bytes"]))], ("", "count"))
        console.say(f"would write {target}: tables only, below {console.size(2000 * plan['files'] + 1e5)}; {store.free_text(target)}")
    console.finish(as_json, {**plan, "out": str(target)})


def _show(meta: dict, audit: dict) -> None:
    steps = [(step["step"], step["samples"], step["patients"]) for step in audit["attrition"]]
    console.table(steps, ("step", "lesions", "patients"))
    told = audit["series"]
    console.say(f"\n{told['files']:,} files read; {sum(told['left_out'].values()):,} of them are no slices that can be used")
    if told["left_out"]:
        console.table([(reason, count) for reason, count in told["left_out"].items()], ("files left out", "count"))
    unusable = [(one["column"], one["reason"], one["rows"]) for one in told["unusable"]]
    if unusable:
        console.table(unusable, ("not used", "", "lesions"))
    console.say("\nmodalities")
    console.table([(name, count) for name, count in audit["present"].items()], ("modality", "lesions"))
    if audit["reports"]:
        console.say("\nreports")
        console.table([(name, count) for name, count in audit["reports"].items() if count], ("what", "count"))
    console.say("\nclasses")
    console.table([(label["label"], label["positive"]) for label in audit["labels"]], ("class", "lesions"))
    _show_leaks(audit["leaks"])
    for warning in audit["warnings"]:
        console.note(warning)


def _show_leaks(leaks: dict) -> None:
    console.say("\nwhat gives the label away (AUROC of logistic regression, chance .5; no test patient is scored)")
    rows = [(one["baseline"], one["auroc"], one["samples"], one["folds"], one["reason"] or "") for one in leaks["baselines"]]
    console.table(rows, ("only", "AUROC", "lesions", "folds", ""))
    if leaks["words"]:
        words = ", ".join(f"{word['word']} {word['reports']}" for word in leaks["words"])
        console.say(f"  words in {leaks['reports']:,} reports: {words}")
