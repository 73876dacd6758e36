"""omnifuse preprocess mimic: MIMIC-III or IV tables, and films, notes and signals, to a cohort."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import console, options, preparations, workspace
from omnifuse.preprocess.schema import ConfigError

TASKS = ("mortality", "phenotyping", "los", "los_remaining", "radiology")
MODALITIES = ("cxr", "rep", "dn", "sig")
PAIRINGS = ("medfuse", "frontal", "any-view")
SECTIONS = ("findings", "findings+impression", "full")
COMPAT = ("none", "mimic3-benchmarks", "medfuse")
path = click.Path(path_type=Path)


@click.command(name="mimic")
@click.option("--ehr", type=path, default=None, metavar="DIR", help="The folder with the tables.  [default: the workspace's]")
@click.option(
    "--cxr",
    type=path,
    metavar="DIR",
    help="MIMIC-CXR-JPG or MIMIC-CXR: films, and reports where they lie there.  [default: the workspace's]",
)
@click.option("--notes", type=path, metavar="DIR", help="MIMIC-IV-Note, NOTEEVENTS, or MIMIC-CXR's reports.  [default: the workspace's]")
@click.option("--signals", type=path, metavar="DIR", help="MIMIC-IV-ECG or the matched waveforms (WFDB).  [default: the workspace's]")
@options.out
@click.option("--task", "tasks", type=click.Choice(TASKS), multiple=True, help="A task to label; may be repeated.  [default: all of stays]")
@click.option(
    "--modality", "modalities", type=click.Choice(MODALITIES), multiple=True, help="What to link.  [default: all that the folders hold]"
)
@click.option("--pairing", type=click.Choice(PAIRINGS), help="Views of which a stay's last film counts; medfuse: AP.  [default: medfuse]")
@click.option("--sections", type=click.Choice(SECTIONS), help="Of a radiology report.  [default: findings]")
@click.option("--exams", type=click.Choice(["chest", "all"]), help="Reports of chest films, or of every exam.  [default: chest]")
@click.option("--report-pick", type=click.Choice(["all", "last"]), help="Reports of a sample's window.  [default: all]")
@click.option("--allow-leak", is_flag=True, default=None, help="Link discharge notes, through which the tasks leak; results are marked.")
@click.option("--step-hours", type=click.FloatRange(0.25, 24), help="Length of a bin.  [default: 2]")
@click.option("--compat", type=click.Choice(COMPAT), help="Reproduce a published pipeline, faults included.  [default: none]")
@click.option(
    "--splits", type=path, metavar="FILE", help="A frozen list of patients and parts (CSV), or a folder with testset and valset lists."
)
@click.option("--split", type=click.Choice(["hash", "temporal"]), help="How folds are made without --splits.  [default: hash]")
@click.option(
    "--assign-new", is_flag=True, default=None, help="Give patients that the frozen list lacks a part by hash instead of refusing."
)
@click.option("--time", type=click.Choice(["storetime", "charttime"]), help="When a value counts as known.  [default: storetime]")
@click.option("--lookback-hours", type=click.FloatRange(0, 24), help="Hours before ICU admission that the series may use.  [default: 0]")
@click.option("--los-thresholds", metavar="DAYS[,DAYS]", help="Where task los cuts the length of stay.  [default: 7]")
@click.option("--los-window-hours", type=click.FloatRange(1, 168), help="Hours that task los may see.  [default: 24]")
@click.option("--exclude-comfort-care", is_flag=True, default=None, help="Leave out stays with comfort care ordered in the window.")
@click.option("--venous-ph", is_flag=True, default=None, help="Count venous pH as pH.")
@click.option("--label-era", type=click.Choice(["icd9", "icd10", "both"]), help="Admissions whose codes make phenotypes.  [default: both]")
@click.option("--phenotypes", type=path, metavar="FILE", help="Definitions of the phenotypes (needed by --compat medfuse).")
@click.option(
    "--on-bad-row", type=click.Choice(["error", "skip"]), help="Stop at a row that cannot be read, or count it.  [default: error]"
)
@click.option("--max-bad", type=click.IntRange(0), help="Rows that --on-bad-row skip may leave out.  [default: 0]")
@options.common
def command(
    ehr: Path | None,
    cxr: Path | None,
    notes: Path | None,
    signals: Path | None,
    out: Path | None,
    as_json: bool,
    dry_run: bool,
    seed: int | None,
    sets: tuple[str, ...],
    **given,
) -> None:
    """MIMIC-III or MIMIC-IV tables to a cohort: stays, labels, 17 variables in 76 columns, folds.

    Films, reports, notes and recordings are linked to the stays by the time at which each became known (docs/tasks.md).

    Says which release it found, how many stays each rule leaves, and what each rule changed. Windows are half-open; a value
    counts from the moment it was stored. A second call with the same input does nothing but check.

    \b
    Example:
      omnifuse preprocess mimic --ehr /data/mimiciv/3.1 --out cohorts/mimic
      omnifuse preprocess mimic --ehr /data/mimiciv/3.1 --cxr /data/mimic-cxr-jpg/2.1.0 --notes /data/mimic-iv-note/2.2
      omnifuse preprocess mimic --ehr /data/mimiciii/1.4 --compat mimic3-benchmarks --out cohorts/benchmark
    """
    from omnifuse.preprocess.mimic.beside import Folders
    from omnifuse.preprocess.mimic.build import build_cohort
    from omnifuse.preprocess.mimic.plan import plan

    space = workspace.find()
    source = ehr or space.ehr
    if source is None:
        raise ConfigError("no tables given", hint="--ehr DIR, or ehr: in omnifuse.yaml; omnifuse demo --raw DIR writes synthetic ones")
    target = out or space.output("cohorts", "mimic")
    beside = {"cxr": cxr, "notes": notes, "signals": signals}
    folders = Folders(**{name: told or space.place(name) for name, told in beside.items()})
    resolved = preparations.options("mimic", space, given, sets, seed)
    if dry_run:
        _show_plan(plan(source, resolved, folders), target, as_json)
        return
    cohort = build_cohort(source, target, resolved, progress=console.progress, folders=folders)
    audit = cohort.json("audit.json")
    if not as_json:
        _show(cohort.meta, audit)
        console.say(f"\ncohort: {console.place(target)}")
    console.finish(as_json, {"cohort": str(target), "meta": cohort.meta, "audit": audit})


def _show_plan(plan: dict, target: Path, as_json: bool) -> None:
    from omnifuse.preprocess import store

    if not as_json:
        rows = [(table["name"], console.size(table["bytes"]), table["rows"]) for table in plan["tables"]]
        needed = f"about {console.size(plan['output_bytes'])}, and {console.size(plan['work_bytes'])} on the way"
        console.say(f"would read {plan['source']}:")
        console.table(rows, ("table", "size", "rows (about)"))
        console.say(f"would write {target}: {needed}; {store.free_text(target)}")
        for warning in plan["warnings"]:
            console.note(warning)
    console.finish(as_json, {**plan, "out": str(target)})


def _show(meta: dict, audit: dict) -> None:
    source = meta["source"]
    console.say(f"found {source['dataset']} {source.get('version') or ''}".rstrip())
    console.table([(name, "-" if told["rows"] is None else told["rows"]) for name, told in source["tables"].items()], ("table", "rows"))
    console.say("\nstays")
    steps = [(step["step"], step["stays"], step["admissions"], step["patients"]) for step in audit["attrition"]]
    console.table(steps, ("step", "stays", "admissions", "patients"))
    console.say("\nrows")
    for table in audit["rows"]:
        dropped = ", ".join(f"{console.number(count)} {reason}" for reason, count in table["dropped"].items() if count)
        console.say(
            f"  {table['table']}: {table['in']:,} in = {table['used']:,} used + {sum(table['dropped'].values()):,} left out ({dropped})"
        )
    if audit["rules"]:
        console.say("\nrules")
        console.table([(rule["rule"], rule["changed"], rule["what"]) for rule in audit["rules"]], ("rule", "changed", ""))
    for name, told in audit.get("linked", {}).items():
        _show_linked(name, told, meta["modalities"][name])
    console.say("\ntasks")
    rows = [(name, told["samples"], told["kind"], _positives(name, told, audit)) for name, told in meta["tasks"].items()]
    console.table(rows, ("task", "samples", "kind", "positive"))
    if meta["splits"].get("refused"):
        console.note(f"training on this cohort is refused: {meta['splits']['refused']}")
    for warning in audit["warnings"]:
        console.note(warning)


def _show_linked(name: str, told: dict, about: dict) -> None:
    chosen = ", ".join(
        f"{key} {about[key] or 'all'}" for key in ("pairing", "pick", "sections", "words", "exams", "source") if key in about
    )
    console.say(f"\n{name} ({chosen})")
    left = sum(told["left_out"].values())
    console.say(f"  {told['rows']:,} rows = {told['linked']:,} linked to stays + {left:,} left out")
    counts = {**told["left_out"], **told["notes"], **told.get("radiology", {})}
    console.table([(reason, count) for reason, count in counts.items() if count], indent="    ")


def _positives(task: str, told: dict, audit: dict) -> str:
    labels = [label for label in audit["labels"] if label["task"] == task]
    if len(labels) == 1:
        return f"{labels[0]['positive']:,}"
    return f"{len(labels)} labels" if labels else ""
