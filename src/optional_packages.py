"""Keeps transformers from importing, at every start, packages that nothing here uses it with.

It takes scikit-learn (for speculative decoding), SciPy (for losses of object detection) and PEFT's models wherever they
are installed, as they are for other reasons: 1.5 of the 5 seconds that a script needs to start. src/lora.py imports of
PEFT what it uses.
"""

from transformers.utils import import_utils

for package in ("peft", "scipy", "sklearn"):
    setattr(import_utils, f"_{package}_available", False)
