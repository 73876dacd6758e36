"""DICOM files that nobody vouches for: opened with bounds, their pixels decoded out of reach of the rest."""
