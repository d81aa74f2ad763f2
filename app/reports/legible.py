"""Names from strangers as text that shows what it holds: no hidden characters, no reordering, no endless length.

File and class names come from the uploader. Escaping for HTML or Markdown is the renderer's; this is what comes before:
an ESC would drive a terminal, and U+202E would turn a sentence of ours around. Knows nothing of reports.
"""

import unicodedata

_OPEN, _CLOSE = "\u2068", "\u2069"  # first strong isolate … pop directional isolate
_JOINERS = "\u200c\u200d\u00ad"  # format characters that words and emoji need
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
_HIDDEN = {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}


def legible(text: str) -> str:
    """The same text with whatever is invisible or reorders its surroundings written as an escape."""
    keep = _JOINERS + (_OPEN + _CLOSE if _balanced(text) else "")
    return "".join(_visible(character, keep) for character in text)


def name(raw: str, limit: int = 60) -> str:
    """A name of at most `limit` characters, isolated if it runs from right to left, fit for a sentence."""
    text = legible(raw.strip()) or "(no name)"
    if len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in text):
        return f"{_OPEN}{text.replace(_OPEN, '').replace(_CLOSE, '')}{_CLOSE}"
    return text


def _visible(character: str, keep: str) -> str:
    if character in keep or unicodedata.category(character) not in _HIDDEN:
        return character
    if character in "\t\n\r":
        return " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _balanced(text: str) -> bool:
    # Balanced isolates keep their content to themselves, so they may stay; any other use is an attack or an accident.
    depth = 0
    for character in text:
        depth += (character == _OPEN) - (character == _CLOSE)
        if depth < 0:
            return False
    return depth == 0
