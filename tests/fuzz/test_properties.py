"""The targets on what Hypothesis makes up: whatever comes, an answer; and the assertions in the targets hold."""

import io
import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds
from tests.hostile.checkpoints import GLOBAL, PROTOCOL, checkpoint, number, storage, tensor, text
from tests.hostile.pixels import LABELS, header, npz
from tests.hostile.zips import Part, deflated, zipped

# The same inputs on every run, so that a change is judged by what it changed; `make fuzz` looks for new ones.
QUICK = settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
SEEDS = {name: list(seeds(name)) for name in TARGETS}


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A seed with some of its bytes replaced, taken out, doubled, or joined with those of another."""
    data = bytearray(draw(st.sampled_from(SEEDS[name])))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8))
        data[at : at + length] = draw(
            st.one_of(st.binary(max_size=8), st.just(bytes(data[at : at + 2 * length])))
        )
    return bytes(data)


NAMES = st.sampled_from([b"cat/1.png", b"dog/1.png", b"cat/", b"x", b"archive/data.pkl", b"archive/version"])
PARTS = st.one_of(
    st.builds(
        Part, NAMES, st.binary(max_size=40), method=st.sampled_from([0, 0, 8]), flags=st.sampled_from([0, 8, 0x800, 1]),
        crc=st.none() | st.integers(0, 9), size=st.none() | st.integers(0, 50), packed=st.none() | st.integers(0, 50),
        extra=st.sampled_from([b"", b"FB\x02\x00ZZ", b"\x01\x00\x08\x00" + bytes(8), b"\x01"]),
        offset=st.none() | st.integers(0, 99), header_size=st.none() | st.integers(0, 50),
    ),
    st.builds(deflated, NAMES, st.binary(max_size=40)),
)  # fmt: skip


@QUICK
@given(
    st.builds(zipped, st.lists(PARTS, max_size=5), gap=st.sampled_from([b"", b"", b"x"])) | damaged("zips")
)
def test_zips(data: bytes) -> None:
    TARGETS["zips"](data)


INSTRUCTIONS = st.one_of(
    st.sampled_from(
        [b"}", b"]", b")", b"(", b"N", b"\x88", b"\x89", b"t", b"\x85", b"\x86", b"\x87", b"s", b"u", b"a"]
    ),
    st.sampled_from([b"e", b"Q", b"R", b"b", b".", b"0", b"2", b"q\x00", b"h\x00", b"q\x01", b"h\x01"]),
    st.sampled_from(
        [GLOBAL("collections", "OrderedDict") + b")R", tensor(), storage(), GLOBAL("os", "system")]
    ),
    st.builds(number, st.integers(-(1 << 70), 1 << 70)),
    st.builds(lambda n: b"K" + bytes([n]), st.integers(0, 255)),
    st.builds(text, st.text("ab\n\x00ü", max_size=4)),
)


@QUICK
@given(
    st.builds(lambda parts: PROTOCOL + b"".join(parts) + b".", st.lists(INSTRUCTIONS, max_size=30))
    | damaged("pickles")
)
@example(PROTOCOL + b"]q\x00h\x00a.")
def test_pickles(data: bytes) -> None:
    TARGETS["pickles"](data)
    TARGETS["models"](checkpoint(data))


SIZES = st.integers(0, 5) | st.sampled_from([-1, 1 << 40, 1 << 63, 1 << 64, True, 1.5, None])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "BOOL", "F4", "", 1]),
        "shape": st.lists(SIZES, max_size=4),
        "data_offsets": st.lists(SIZES, min_size=1, max_size=3),
    }
)
HEADERS = st.dictionaries(
    st.sampled_from(["a", "b", "__metadata__", "<b>"]),
    ENTRIES | st.dictionaries(st.text(max_size=3), st.text()),
)


@QUICK
@given(HEADERS, st.binary(max_size=40), st.integers(-2, 2))
def test_safetensors_headers(header: dict[str, Any], data: bytes, lie: int) -> None:
    body = json.dumps(header, separators=(",", ":")).encode()
    TARGETS["models"](max(len(body) + lie, 0).to_bytes(8, "little") + body + data)


@QUICK
@given(damaged("models"))
def test_models(data: bytes) -> None:
    TARGETS["models"](data)


@QUICK
@given(
    st.sampled_from(["'|u1'", "'<f4'", "'|O'", "[('a', 'u1')]", "1"]),
    st.sampled_from(["False", "True", "0"]),
    st.lists(st.integers(-2, 9), max_size=5),
    st.binary(max_size=600),
)
def test_arrays(kind: str, order: str, shape: list[int], data: bytes) -> None:
    head = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {tuple(shape)}, }}\n"
    TARGETS["samples"](npz(header(head, data), LABELS))


@QUICK
@given(damaged("samples"))
def test_samples(data: bytes) -> None:
    TARGETS["samples"](data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "architecture",
    "normalize",
    "fidelity",
    "seed",
    "split",
    "unlearn",
    "recover",
    "prune",
    "evidence",
    "x",
)
INNER = ("fit", "lr", "milestones", "max_epochs", "epochs", "accuracy_budget", "seeds", "threshold_step", "x")
GIVEN = st.dictionaries(
    st.sampled_from(FIELDS),
    JSON | st.just("paper") | st.dictionaries(st.sampled_from(INNER), JSON, max_size=3),
    max_size=4,
)


@QUICK
@given(GIVEN | JSON)
def test_options(given: object) -> None:
    TARGETS["options"](json.dumps(given).encode())


@QUICK
@given(st.binary(max_size=200), st.sampled_from(sorted(TARGETS)))
def test_anything(data: bytes, name: str) -> None:
    TARGETS[name](io.BytesIO(data).read())
