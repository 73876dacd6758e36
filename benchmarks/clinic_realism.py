"""How near the synthetic clinic is to real data: what is measured of both, and how well a classifier tells them apart.

    python benchmarks/clinic_realism.py --raw RAW --lung RAW_LUNG --data $OMNIFUSE_TEST_DATA [--only films ct ...]

prints the tables of docs/clinic.md. RAW is from `omnifuse demo --raw`, RAW_LUNG from `omnifuse demo --setting subtyping --raw`. An AUROC of
0.5 would be no difference; it is far from that. Where there is no real data, what is printed are ranges that are stated, and it says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("tables", "films", "signals", "texts", "volumes")


def report(part: str, raw: Path, lung: Path, data: Path) -> list[str]:
    """The lines of one part; each is imported when it is asked for."""
    if part == "tables":
        from clinic_realism_tables import report as tables

        return tables(raw, data)
    if part == "films":
        from clinic_realism_films import report as films

        return films(raw, data)
    if part == "signals":
        from clinic_realism_signals import report as signals

        return signals(raw)
    if part == "texts":
        from clinic_realism_texts import report as texts

        return texts(raw, lung)
    from clinic_realism_volumes import report as volumes

    return volumes(lung, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--raw", type=Path, required=True, help="raw files of a clinic")
    parser.add_argument("--lung", type=Path, required=True, help="raw files of its subtyping setting")
    parser.add_argument("--data", type=Path, required=True, help="the real data: mimic4demo, cxr_hannover, ct_lidc0314, petct_sts001")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    for part in options.only:
        print(f"\n### {part.capitalize()}\n")
        print("\n".join(report(part, options.raw, options.lung, options.data)))


if __name__ == "__main__":
    main()
