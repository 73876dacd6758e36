"""The synthetic clinic: raw tables in MIMIC-IV's layout from a known truth. It knows nothing of any model.

from omnifuse.preprocess.clinic.generate import generate
generate(Path("raw"), patients=300, seed=0, world="default")
"""
