"""What was done to a model, as evidence that a stranger can check: statement, signature and bill of materials.

Pure functions from a report and digests to bytes, and back. Nothing here says that a model is clean.
"""
