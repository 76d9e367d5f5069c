"""One script for each format, run as ``python -I FILE FOLDER SAMPLES``. They import another engine, never Trimtab."""
