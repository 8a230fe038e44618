"""Errors of the domain: each has a stable code and a sentence for its reader."""

import re

import pytest

from licensesvc.domain import errors
from licensesvc.domain.errors import DomainError, IllegalTransition, LicenseNotFound

ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, DomainError)]


@pytest.mark.parametrize("error", ERRORS)
def test_code_is_the_name_in_upper_snake(error):
    assert error.code == re.sub(r"(?<!^)(?=[A-Z])", "_", error.__name__).upper()


@pytest.mark.parametrize("error", ERRORS)
def test_docstring_is_a_sentence(error):
    sentence = error.__doc__.partition("\n")[0]
    assert sentence.endswith(".")
    assert sentence[0].isupper()


def test_message_is_the_docstring_or_the_detail():
    assert str(LicenseNotFound()) == LicenseNotFound().message == "The license code does not exist."
    assert (
        str(LicenseNotFound("no such code here")) == LicenseNotFound("no such code here").message == "no such code here"
    )


def test_only_the_first_line_of_a_docstring_is_shown():
    assert DomainError().message == "The request cannot be carried out."


def test_an_illegal_transition_names_state_and_event():
    error = IllegalTransition("PAID", "accepted")
    assert (error.state, error.event, error.message) == ("PAID", "accepted", "accepted is not allowed in PAID")
