"""Raw files to cohort to batches."""
