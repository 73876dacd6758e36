"""What reports state, before it is put into words: effusion and the report's own finding (yes, no, possible, not told), and a grade.

A report keeps the last one's statements with chance `kept`, else the film is looked at anew; a copied report keeps them with its text.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from omnifuse.preprocess.clinic.modality_world import Report

YES, NO, POSSIBLE, SILENT = range(4)
EFFUSION, OWN, GRADE = range(3)  # columns of an array of statements
GRADES = 4  # none, mild, moderate, severe; then SILENT_GRADE
SILENT_GRADE = 4


def told_shares(knobs: Report, noise: float) -> np.ndarray:
    """[2, 4] P(statement | finding absent or present): noise makes a told finding wrong more often."""
    right = ndtr(ndtri(knobs.right) / noise)
    told = (1 - knobs.silent) * (1 - knobs.hedged)
    rest = [(1 - knobs.silent) * knobs.hedged, knobs.silent]
    return np.array([[told * (1 - right), told * right, *rest], [told * right, told * (1 - right), *rest]])


def grade_shares(knobs: Report, noise: float, level: np.ndarray) -> np.ndarray:
    """[..., 5] P(grade | R); the marginal shares are those of the knobs whatever the noise."""
    slope = knobs.redundant / noise
    cuts = ndtri(np.clip(np.cumsum(knobs.grades)[:-1], 1e-12, 1 - 1e-12)) * np.sqrt(1 + slope**2)
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    share = np.diff(ndtr(edges - slope * np.asarray(level, float)[..., None]), axis=-1)
    return np.concatenate([(1 - knobs.silent) * share, np.full((*share.shape[:-1], 1), knobs.silent)], -1)


def draw_statements(
    knobs: Report, noise: float, level: float, findings: tuple[bool, bool], keep: np.ndarray, copied: np.ndarray, fresh: np.ndarray
) -> np.ndarray:
    """[n, 3] statements of the reports of a stay, one after the other.

    Args:
        findings: effusion, and the report's own.
        keep: [n, 3] uniform: whether each statement is kept.
        copied: [n] bool.
        fresh: [n, 3] uniform: what a fresh look finds.
    """
    told = told_shares(knobs, noise)
    shares = [told[int(findings[0])], told[int(findings[1])], grade_shares(knobs, noise, level)]
    out = np.column_stack(
        [np.minimum(np.searchsorted(np.cumsum(share), fresh[:, k], side="right"), len(share) - 1) for k, share in enumerate(shares)]
    )
    for j in range(1, len(out)):
        out[j] = np.where(copied[j] | (keep[j] < knobs.kept), out[j - 1], out[j])
    return out


def log_likelihood(statements: np.ndarray, copied: np.ndarray, knobs: Report, shares: np.ndarray) -> np.ndarray | float:
    """log P of one column of statements [n] in their order, for each row of `shares` [..., states]; copies tell nothing."""
    at = np.flatnonzero(~copied)
    if not len(at):
        return 0.0
    same = np.array([j > 0 and statements[j] == statements[j - 1] for j in at])
    first = np.array([j == 0 for j in at])
    kept = np.where(first, 0.0, knobs.kept)
    fresh = np.moveaxis(shares[..., statements[at]], -1, 0)  # [n, ...]
    shape = (-1,) + (1,) * (fresh.ndim - 1)
    chance = (kept * same).reshape(shape) + (1 - kept).reshape(shape) * fresh
    return np.log(np.clip(chance, 1e-300, None)).sum(0)
