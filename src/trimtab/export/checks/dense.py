"""Plain transformers on a dense folder: ``python -I dense.py FOLDER SAMPLES``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).with_name("shared")))  # -I leaves a script's own folder out

from library import asked, open_model, widened
from teacher import main

if __name__ == "__main__":
    main(lambda folder: asked(widened(open_model(folder))))
