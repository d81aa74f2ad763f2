"""The bounds of what is read as samples, each with its reason.

A few hundred images are the use; these bounds leave two orders of magnitude above it and still keep one hostile
upload from filling the memory of a worker.
"""

MAX_IMAGES = 20_000  # forty times what unlearning needs; more only makes every stage slower
MAX_ARCHIVE_BYTES = 1 << 30  # 20 000 photographs of 50 kB
MAX_UNPACKED_BYTES = 4 << 30  # 20 000 images of 224×224×3 in an .npz are 3 GB
MAX_ENTRY_BYTES = 20 << 20  # one encoded image; a 16 MP photograph is 5 to 10 MB
MAX_RATIO = 100  # unpacked to packed, of the whole archive; deflate reaches 1032, encoded images hardly 2
RATIO_FREE_BYTES = (
    64 << 20
)  # below it the ratio says nothing: a list of sorted labels reaches 600, and harms nobody
MAX_DIRECTORY_BYTES = 8 << 20  # the zip directory is read whole, so it is bounded before: ~100 000 entries
MAX_ENTRIES = 50_000  # an archive made on a Mac has two entries a file
MAX_PIXELS = 4096 * 4096  # every format decodes to 3 or 4 bytes a pixel: 64 MB at worst, one image at a time
MAX_TENSOR_BYTES = 4 << 30  # all images at the size of the model's input, held at once
MAX_CLASSES_JSON_BYTES = 1 << 20  # 20 000 names of 50 bytes
MAX_NAME_LENGTH = 255  # of one part of a path, as on most file systems
SHOWN_LENGTH = 80  # of a foreign name inside a message
