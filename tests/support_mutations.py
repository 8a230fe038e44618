"""Requests that were right once: a seeded generator that breaks documents, parameters and bytes in every way callers do.

In: one broken thing out of a right one, by the dice it is given. Out: where it is sent and what must not happen.
"""

import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

STRANGE_TEXTS = (
    "",
    " ",
    "\t",
    "\0",
    "a\0b",
    "\ufeff",
    "\u202e",
    "\uffff",
    "'\"`;--",
    "<script>alert(1)</script>",
    "%00%0a%0d",
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "é\u0301\u0301",
    "授权码",
    "🂡" * 16,
    "0",
    "-1",
    "00000000000000",
    "99991231235959",
    "20230230000000",
    "2023-07-26T12:16:46Z",
    "null",
    "NaN",
    "1e309",
    "PL****001",
)
STRANGE_VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63,
    -(2**63) - 1,
    10**40,
    0.5,
    1e308,
    [],
    {},
    [[]],
    [None],
    [{}],
    {"": ""},
    {"a": {"b": {"c": []}}},
)
LENGTHS = (0, 1, 2, 15, 16, 17, 19, 20, 21, 31, 32, 33, 63, 64, 65, 100, 101, 255, 256, 257, 1023, 1024, 1025, 5000)
RAW_VALUES = (
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\xff\xfe"',
    b'"\xc3"',
    b"1e9999",
    b"-0",
    b"01",
    b"+1",
    b".5",
    b"Infinity",
    b"NaN",
    b"'x'",
    b"[" * 3000 + b"]" * 3000,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b"9" * 5000,
    b"/* */ 1",
    b'"',
    b"",
)
_MARK = "@@raw@@"


def text(dice: random.Random) -> str:
    """A strange text, or a harmless one of a length at some field's bound."""
    if dice.random() < 0.5:
        return dice.choice(STRANGE_TEXTS)
    return dice.choice("aZ0权\u00e9") * dice.choice(LENGTHS)


def value(dice: random.Random) -> Any:
    """Any JSON value."""
    return text(dice) if dice.random() < 0.5 else dice.choice(STRANGE_VALUES)


def document(dice: random.Random, right: Mapping[str, Any]) -> bytes:
    """A JSON body with one to three things wrong with it."""
    fields: dict[str, Any] = dict(right)
    raw: bytes | None = None
    for _ in range(dice.randint(1, 3)):
        name = dice.choice([*fields] or ["x"])
        match dice.randrange(8):
            case 0:
                fields.pop(name, None)
            case 1:
                fields[dice.choice([name.upper(), f"{name} ", "", "__proto__", text(dice)])] = value(dice)
            case 2:
                fields[name], raw = _MARK, dice.choice(RAW_VALUES)
            case 3:
                fields[name] = [fields.get(name)] * dice.choice((0, 1, 2, 101))
            case 4 if isinstance(fields.get(name), list) and fields[name]:
                fields[name] = _inside(dice, fields[name])
            case 4 if isinstance(fields.get(name), dict):
                fields[name] = {**fields[name], dice.choice([*fields[name], "x"]): value(dice)}
            case _:
                fields[name] = value(dice)
    body = msgspec.json.encode(fields)
    if raw is not None:
        body = body.replace(msgspec.json.encode(_MARK), raw)
    return mangled(dice, body) if dice.random() < 0.15 else body


def _inside(dice: random.Random, items: list[Any]) -> list[Any]:
    changed = list(items)
    place = dice.randrange(len(changed))
    if isinstance(changed[place], dict):
        inner = dict(changed[place])
        inner[dice.choice([*inner, "x"])] = value(dice)
        changed[place] = inner
    else:
        changed[place] = value(dice)
    return changed


def parameters(dice: random.Random, right: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and values of a query with one to three things wrong with them; a name may stand twice."""
    pairs = list(right.items())
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(len(pairs)) if pairs else 0
        match dice.randrange(5):
            case 0 if pairs:
                del pairs[place]
            case 1:
                pairs.append((dice.choice(["x", "", text(dice)]), text(dice)))
            case 2 if pairs:
                pairs.append(pairs[place])
            case _ if pairs:
                pairs[place] = (pairs[place][0], text(dice))
    return pairs


def query(dice: random.Random, pairs: list[tuple[str, str]]) -> str:
    """The query string, now and then not encoded as it should be."""
    joined = "&".join(f"{quote(name, safe='')}={quote(content, safe='')}" for name, content in pairs)
    if dice.random() < 0.1:
        place = dice.randrange(len(joined) + 1)
        joined = joined[:place] + dice.choice(["%", "%zz", "%ff", "&&", "=", "&=", "+", "%00", ";"]) + joined[place:]
    return joined


def mangled(dice: random.Random, content: bytes) -> bytes:
    """The bytes with some of them changed, cut off, doubled or put elsewhere."""
    broken = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(broken) + 1)
        match dice.randrange(4):
            case 0:
                broken[place : place + 1] = bytes([dice.randrange(256)])
            case 1:
                del broken[place:]
            case 2:
                broken[place:place] = bytes(dice.randrange(256) for _ in range(dice.randint(1, 8)))
            case 3:
                broken[place:place] = broken[: dice.randrange(1, 64)]
    return bytes(broken)
