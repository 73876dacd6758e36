"""omnifuse: from raw clinical files to honest numbers about multimodal models on low-quality data."""

__version__ = "0.1.0"
