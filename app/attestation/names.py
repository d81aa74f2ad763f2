"""The names of the files of evidence; the process that opens uploads knows these, and nothing else of signing."""

STATEMENT = "statement.json"
BUNDLE = "statement.sigstore.json"
FOLDER_SIGNATURE = "model.sig"
MLBOM = "mlbom.json"
FILES = (STATEMENT, BUNDLE, FOLDER_SIGNATURE, MLBOM)
UNSIGNED = "attestation.unsigned"  # the code of the problem where no key signs
