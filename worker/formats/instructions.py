"""One instruction of a pickle, in the one form in which a pickler writes it.

A number can be written in several ways, and a reader takes them all; what is read here must be what would be written.
"""

import pickletools
import struct

_NUMBERS = {
    "PROTO": "<B",
    "BINPUT": "<B",
    "LONG_BINPUT": "<I",
    "BINGET": "<B",
    "LONG_BINGET": "<I",
    "BININT": "<i",
    "BININT1": "<B",
    "BININT2": "<H",
    "BINFLOAT": ">d",
}


def encoded(opcode: pickletools.OpcodeInfo, argument: object) -> bytes:
    """The instruction in the one form in which a pickler writes it."""
    code = opcode.code.encode("latin-1")
    if opcode.name in _NUMBERS:
        return code + struct.pack(_NUMBERS[opcode.name], argument)
    match opcode.name, argument:
        case "LONG1", int(number):
            length = (number.bit_length() + 8) // 8 if number else 0
            if number < 0 and length > 1 and -number <= 1 << (8 * (length - 1) - 1):
                length -= 1
            return code + bytes([length]) + number.to_bytes(length, "little", signed=True)
        case "BINUNICODE", str(text):
            data = text.encode("utf-8", "surrogatepass")
            return code + struct.pack("<I", len(data)) + data
        case "GLOBAL", str(text):
            return code + text.replace(" ", "\n").encode() + b"\n"
        case _:
            return code
