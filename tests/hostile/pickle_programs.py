"""Rows 30 to 40: what the pickle in a checkpoint can be made to say."""

from tests.hostile.checkpoints import (
    GLOBAL,
    PROTOCOL,
    checkpoint,
    number,
    saved,
    state,
    storage,
    tensor,
    text,
)
from tests.hostile.interface import ACCEPTED, Kind, row

UNSAFE, DAMAGED = "model.unsafe_pickle", "model.malformed_pickle"
BOUNDS, LIMIT = "model.tensor_out_of_bounds", "model.pickle_limits"
OTHER_TENSOR, NO_STATE = "model.unsupported_dtype", "model.not_a_state_dict"
COMMAND = text("touch canary") + b"\x85R"


def calls(module: str, name: str, argument: bytes = COMMAND) -> bytes:
    return checkpoint(PROTOCOL + GLOBAL(module, name) + argument + b".")


@row("30a", Kind.MODEL, UNSAFE)
def commands() -> list[bytes]:
    """A pickle that calls os.system, posix.system, eval, exec, subprocess or runpy."""
    names = (("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"))
    more = (("subprocess", "Popen"), ("runpy", "run_path"), ("pty", "spawn"), ("nt", "system"))
    return [calls(*name) for name in names + more]


@row("30b", Kind.MODEL, UNSAFE)
def gadgets() -> list[bytes]:
    """Calls that scanners let through: pkgutil.resolve_name, pip.main, methodcaller, ctypes, code objects."""
    names = (("pkgutil", "resolve_name"), ("pip", "main"), ("operator", "methodcaller"), ("ctypes", "CDLL"))
    more = (
        ("types", "CodeType"),
        ("importlib", "import_module"),
        ("uuid", "_get_command_stdout"),
        ("timeit", "timeit"),
    )
    return [calls(*name) for name in names + more]


@row("30c", Kind.MODEL, UNSAFE)
def almost_allowed_names() -> list[bytes]:
    """Names close to an allowed one: a submodule, another case, a dot in the name, a space, an empty one."""
    names = (("torch._utils", "_rebuild_tensor_v2.__globals__"), ("torch", "floatStorage"), ("torch", "load"))
    more = (
        ("torch.storage", "FloatStorage"),
        ("collections", "OrderedDict "),
        ("", ""),
        ("torch._utils", ""),
    )
    return [calls(*name) for name in names + more]


@row("30d", Kind.MODEL, UNSAFE)
def other_ways_to_call() -> list[bytes]:
    """INST, OBJ, NEWOBJ, EXT1, STACK_GLOBAL, BUILD of an attribute, and REDUCE of a dict."""
    system = GLOBAL("os", "system")
    programs = (
        b"(" + text("touch canary") + b"ios\nsystem\n.",
        b"(" + system + text("touch canary") + b"o.",
        system + b")\x81.",
        b"\x82\x01.",
        text("os") + text("system") + b"\x93" + COMMAND + b".",
        b"}" + text("items") + text("x") + b"s}b.",
        b"})R.",
    )
    return [checkpoint(PROTOCOL + program) for program in programs]


@row("30e", Kind.MODEL, UNSAFE, DAMAGED)
def other_protocols() -> list[bytes]:
    """Protocols 0, 1, 3, 4 and 5, none, and two."""
    plain = state(("a", tensor()))[2:]
    programs = (
        b"cos\nsystem\n(S'true'\ntR.",
        plain,
        *(b"\x80" + bytes([n]) + plain for n in (0, 1, 3, 4, 5, 255)),
    )
    return [checkpoint(program) for program in (*programs, PROTOCOL + b"\x80\x04" + plain)]


@row("30f", Kind.MODEL, UNSAFE)
def codecs_and_bytes() -> list[bytes]:
    """Calls that torch allows and no state dict needs: _codecs.encode, bytearray, Size, device, set."""
    names = (("_codecs", "encode"), ("builtins", "bytearray"), ("torch", "Size"), ("torch", "device"))
    return [calls(*name) for name in (*names, ("builtins", "set"), ("torch", "dtype"))]


@row("31", Kind.MODEL, UNSAFE)
def payload_before_the_damage() -> bytes:
    """A command first, garbage after it."""
    return checkpoint(PROTOCOL + GLOBAL("os", "system") + COMMAND + b"\xff\xfe garbage")


@row("31b", Kind.MODEL, UNSAFE)
def unknown_escapes() -> bytes:
    """A text of protocol 0 with an escape that Python does not know, of which its own reader warns."""
    return checkpoint(PROTOCOL + b"S'\\o'\n.")


@row("32", Kind.MODEL, UNSAFE)
def allocations() -> list[bytes]:
    """Sixteen gigabytes asked for in forty bytes: bytearray, UntypedStorage, Tensor."""
    size = number(1 << 34) + b"\x85R"
    names = (("builtins", "bytearray"), ("torch.storage", "UntypedStorage"), ("torch", "Tensor"))
    return [calls(*name, size) for name in names]


@row("33a", Kind.MODEL, LIMIT, UNSAFE)
def deep_keys() -> list[bytes]:
    """A dict key of 200 000 nested tuples, which ends torch's own reader with a segmentation fault."""
    deep = b")" + b"\x85" * 200_000
    return [checkpoint(PROTOCOL + b"}" + deep + b"K\x01s."), checkpoint(state(("a", deep)))]


@row("33b", Kind.MODEL, LIMIT)
def deep_values() -> list[bytes]:
    """Lists and dicts nested 100 000 deep."""
    return [
        checkpoint(state(("a", b"]" * 100_000 + b"a" * 99_999))),
        checkpoint(state(("a", (b"}" + text("k")) * 50_000 + b"N" + b"s" * 50_000))),
    ]


@row("34a", Kind.MODEL, LIMIT)
def billion_laughs() -> bytes:
    """Thirty lists, each holding the one before it ten times."""
    levels = b"".join(b"](" + b"h\x00" * 10 + b"eq\x00" for _ in range(30))
    return checkpoint(PROTOCOL + b"(]q\x00" + levels + b"t.")


@row("34b", Kind.MODEL, LIMIT)
def too_long() -> list[bytes]:
    """A million instructions, and 17 MB of one string."""
    long = b"X" + (17 << 20).to_bytes(4, "little") + b"a" * (17 << 20)
    return [checkpoint(PROTOCOL + b"](" + b"N" * 1_000_001 + b"e."), checkpoint(PROTOCOL + long + b".")]


@row("34c", Kind.MODEL, UNSAFE)
def colliding_keys() -> bytes:
    """Three thousand integer keys that all have one hash."""
    keys = b"".join(number(k * ((1 << 61) - 1)) + b"Ns" for k in range(1, 3000))
    return checkpoint(PROTOCOL + b"}" + keys + b".")


@row("34d", Kind.MODEL, DAMAGED, UNSAFE, LIMIT)
def lists_in_themselves() -> list[bytes]:
    """A list that is its own element, a dict that is its own value, and a memo of a mark."""
    return [
        checkpoint(PROTOCOL + b"]q\x00h\x00a."),
        checkpoint(PROTOCOL + b"}q\x00" + text("a") + b"h\x00s."),
        checkpoint(PROTOCOL + b"(q\x00."),
    ]


@row("35", Kind.MODEL, DAMAGED)
def damaged() -> list[bytes]:
    """No stop, nothing at all, an empty stack, a memo that was never filled, two values, half an instruction."""
    programs = (
        b"}",
        b"",
        b".",
        b"s.",
        b"h\x07.",
        b"}}.",
        b"X\xff\xff\xff\x7fabc",
        b"K",
        b"t.",
        b"\x8a\xff1.",
    )
    return [checkpoint(PROTOCOL + program) for program in programs]


@row("35b", Kind.MODEL, DAMAGED)
def written_strangely() -> list[bytes]:
    """Numbers and instructions that mean the same and that no pickler writes; bytes behind the end."""
    good = state(("a", tensor()))
    return [
        checkpoint(good + b"hidden"),
        checkpoint(PROTOCOL + b"}" + text("n") + b"\x8a\x03\x01\x00\x00s" + good[3:]),
        checkpoint(PROTOCOL + b"}" + text("n") + b"\x8a\x02\xff\xffs" + good[3:]),
    ]


@row("35c", Kind.MODEL, UNSAFE)
def one_key_twice() -> bytes:
    """One key of the state dict twice: which tensor counts?"""
    return checkpoint(state(("a", tensor()), ("a", tensor(storage("1")))), storages=2)


@row("36a", Kind.MODEL, NO_STATE)
def no_state_dict() -> list[bytes]:
    """A number, a string, a list, a tensor alone, keys that are numbers, an empty dict."""
    programs = (
        b"K\x01.",
        text("a") + b".",
        b"](" + tensor() + b"e.",
        tensor() + b".",
        b"}K\x01" + tensor() + b"s.",
    )
    return [checkpoint(PROTOCOL + program, storages=b"storage" in program) for program in (*programs, b"}.")]


@row("36b", Kind.MODEL, UNSAFE)
def modules() -> list[bytes]:
    """A whole module, of torch or of the uploader."""
    return [calls("torch.nn.modules.linear", "Linear", b")\x81}b"), calls("__main__", "Net", b")\x81}b")]


@row("37a", Kind.MODEL, BOUNDS)
def endless_views() -> list[bytes]:
    """A view of 2^40 elements on 16 bytes, an overlapping one, and three hundred of one storage."""
    shared = tensor(storage(numel=2500), shape=(2500,))
    return [
        checkpoint(state(("a", tensor(shape=(1 << 40,), stride=(0,))))),
        checkpoint(state(("a", tensor(shape=(3, 2), stride=(1, 1))))),
        checkpoint(state(*((str(n), shared) for n in range(300))), size=10_000),
        checkpoint(state(("a", tensor(shape=(5,))))),
    ]


@row("37b", Kind.MODEL, BOUNDS)
def impossible_tensors() -> list[bytes]:
    """Shapes, strides and offsets that are negative, too large, overflow, or of another rank."""
    return [
        checkpoint(state(("a", tensor(**form))))  # type: ignore[arg-type]
        for form in (
            {"shape": (-1,)}, {"stride": (-1,)}, {"offset": -1}, {"offset": 1}, {"offset": 1 << 62},
            {"shape": (1 << 62, 1 << 62), "stride": (1, 1)}, {"shape": (0, 1 << 60), "stride": (1, 1)},
            {"shape": (1 << 70,)}, {"stride": (1 << 70,)}, {"shape": (4, 1)}, {"shape": (1,) * 9, "stride": (1,) * 9},
        )
    ]  # fmt: skip


@row("37c", Kind.MODEL, BOUNDS, "model.malformed_container", DAMAGED)
def impossible_storages() -> list[bytes]:
    """Storages of another size than their member, of a negative one, without a member, or under a path."""
    return [
        checkpoint(state(("a", tensor(storage(**form)))))  # type: ignore[arg-type]
        for form in (
            {"numel": 5}, {"numel": 3}, {"numel": -1}, {"numel": 1 << 62}, {"kind": "DoubleStorage"},
            {"key": "7"}, {"key": "../0"}, {"key": "0" * 300},
        )
    ]  # fmt: skip


@row("38", Kind.MODEL, OTHER_TENSOR)
def other_tensors() -> list[bytes]:
    """Sparse, nested, quantised, complex and meta tensors, and those of rare dtypes."""
    rebuilt = (
        "_rebuild_sparse_tensor",
        "_rebuild_nested_tensor",
        "_rebuild_qtensor",
        "_rebuild_meta_tensor_no_storage",
    )
    return [
        *(checkpoint(state(("a", tensor(rebuild=name)))) for name in (*rebuilt, "_rebuild_tensor_v3")),
        *(
            checkpoint(state(("a", tensor(storage(kind=kind)))))
            for kind in ("ComplexFloatStorage", "QInt8Storage")
        ),
    ]


@row("38b", Kind.MODEL, UNSAFE)
def tensors_with_attributes() -> list[bytes]:
    """Tensors that carry hooks, metadata or a class of their own."""
    hooks = GLOBAL("collections", "OrderedDict") + b")R"
    hooked = tensor().replace(hooks, hooks + text("h") + b"Ns")
    return [
        checkpoint(state(("a", hooked))),
        checkpoint(state(("a", tensor(rebuild="_rebuild_from_type_v2")))),
        checkpoint(state(("a", tensor(rebuild="_rebuild_wrapper_subclass")))),
    ]


@row("39", Kind.MODEL, ACCEPTED)
def tied_weights() -> bytes:
    """Two tensors that share one storage, as tied weights do."""
    return checkpoint(state(("a", tensor()), ("b", tensor())))


@row("40", Kind.MODEL, ACCEPTED)
def other_devices() -> list[bytes]:
    """Tensors saved on cuda:7 or mps: what the file says of devices counts for nothing."""
    return [
        checkpoint(state(("a", tensor(storage(location=place))))) for place in ("cuda:7", "mps", "meta", "")
    ]


@row("45b", Kind.MODEL, "model.name_invalid")
def names_in_a_checkpoint() -> list[bytes]:
    """Names with a line break, HTML, an escape code, a path, or nothing."""
    return [saved({name: [1.0]}) for name in ("a\r\nb", "<script>", "\x1b[2J", "a\\b", "", "ü", "a" * 300)]
