"""The identification code in saasExtendParams (spec §2.2 [I]): however many layers a sender puts around it, and rubbish."""

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.errors import InvalidParameter
from licensesvc.marketplace.huawei.extend_params import MAX_IDENTIFICATION_CODE, identification_code


def b64(text):
    return base64.b64encode(text.encode()).decode()


def array(value="HW-1 ÄÖ/+?中", name="identificationCode"):
    return json.dumps([{"name": "other", "value": 7}, {"name": name, "value": value}], ensure_ascii=False)


LAYERS = {
    "as documented": lambda text: b64(quote(text)),
    "url-encoded once more": lambda text: quote(b64(quote(text)), safe=""),
    "a form's encoding": lambda text: b64(quote_plus(text).replace("+", "%20")),
    "not url-encoded inside": b64,
    "url-safe alphabet": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "without padding": lambda text: b64(text).rstrip("="),
    "a plus that became a blank": lambda text: b64(text).replace("+", " "),
    "url-encoded alone": quote,
    "bare": lambda text: text,
    "twice": lambda text: quote(b64(quote(b64(text)))),
    "with blanks around": lambda text: f" {b64(text)}\n",
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("code", ["HW-1", "HW-1 ÄÖ/+?>~中", "x" * MAX_IDENTIFICATION_CODE, "a%20b", "[1]"])
def test_the_code_is_found_under_every_layer(layers, code):
    assert identification_code(layers(array(code))) == code


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40))
def test_any_printable_code_survives_the_documented_layers(code):
    assert identification_code(b64(quote(array(code)))) == code


@pytest.mark.parametrize(
    "text",
    [
        None,
        b64("[]"),
        b64("[{}]"),
        b64('[{"name":"x","value":1}]'),
        b64(array("")),
        b64(array(None)),
        b64(array(name="IdentificationCode")),
    ],
)
def test_without_one_there_is_none(text):
    assert identification_code(text) is None


def test_the_same_code_twice_is_one():
    assert (
        identification_code(
            b64('[{"name":"identificationCode","value":"a"},{"name":"identificationCode","value":"a"}]')
        )
        == "a"
    )


@pytest.mark.parametrize(
    "text",
    [
        "rubbish!",
        "%",
        "%ff",
        "云",
        b64("canary"),
        b64("{}"),
        b64('{"name":"identificationCode","value":"canary"}'),
        b64("[1]"),
        b64("[[]]"),
        b64("[{}"),
        b64("[{}] canary"),
        b64('[{"name":"identificationCode","value":7}]'),
        b64('[{"name":"identificationCode","value":["canary"]}]'),
        b64('[{"name":"identificationCode","value":"canary"},{"name":"identificationCode","value":"b"}]'),
        b64('[{"name":"identificationCode","name":"x"}]'),
        b64(array("canary\0")),
        b64(array("canary\n")),
        b64('[{"name":"identificationCode","value":"\\ud800"}]'),
        b64(array("x" * (MAX_IDENTIFICATION_CODE + 1))),
        b64("[" * 2_000),
        b64("[" + "{}," * 1_500),
        b64(b64(b64(b64(b64(b64(array()))))))[:4096],
        base64.b64encode(b"\xff\xfe[").decode(),
        "=",
        "====",
    ],
)
def test_rubbish_is_refused_and_never_quoted(text):
    with pytest.raises(InvalidParameter, match="saasExtendParams") as refused:
        identification_code(text)
    assert "canary" not in refused.value.message


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()))
def test_any_text_is_read_or_refused(text):
    try:
        code = identification_code(text)
    except InvalidParameter:
        return
    assert code is None or isinstance(code, str)
