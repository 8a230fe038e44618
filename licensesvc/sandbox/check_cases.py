"""The debugging suite: every case that a seller's production URL must pass, as data (spec §§2.0–2.2, 2.5, 4).

In: the documented calls with their fields, and what each case does to one of them. Out: sending and judging (`check`). Every call carries
testFlag=1, so that a seller changes nothing; the one that does not is made only when it is asked for.

A new call is a row of `CALLS`, a new kind of case a row of `MISDEEDS`.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.marketplace.huawei.result_codes import CallbackCode


class Dialect(StrEnum):
    """Which of the marketplace's two families of calls."""

    LICENSE_2_0 = "2.0"
    LICENSE_1_0 = "1.0"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A documented field: a right value, the longest length in characters, whether it must be there, and the only values it may have."""

    value: str
    length: int
    mandatory: bool = True
    choices: tuple[str, ...] = ()


class Documented(msgspec.Struct, frozen=True, kw_only=True):
    """A call as the documentation has it; `inferred` ones have no published field table."""

    name: str
    dialect: Dialect
    section: str
    fields: Mapping[str, Field]
    inferred: bool = False


class Misdeed(StrEnum):
    """What is done to a right call before it is sent."""

    NONE = "as documented"
    REPEATED = "repeated, signed anew"
    OTHER_CASE = "signature in upper case"
    UNKNOWN_FIELD = "with a field that nobody knows"
    WRONG_SIGNATURE = "signed with another key"
    CHANGED_AFTERWARDS = "changed after it was signed"
    UNSIGNED = "without signature"
    STALE = "signed too long ago"
    EARLY = "signed in the future"
    REPLAYED = "sent twice as it is"
    MISSING = "without {}"
    TOO_LONG = "{} too long"
    NO_CHOICE = "{} with a value that is none"
    UNKNOWN_ACTIVITY = "with an unknown activity"
    UNREADABLE = "with a body that is no JSON"
    UNKNOWN_CODE = "live, about a code that does not exist"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One case: which call, what is done to it (and to which field), and the result codes that pass.

    `must` False: the documentation does not settle it, so it is told and does not count.
    """

    call: Documented
    misdeed: Misdeed
    field: str = ""
    passes: frozenset[str]
    must: bool = True

    @property
    def name(self) -> str:
        """For people; unique in a suite."""
        return f"{self.call.name}: {self.misdeed.format(self.field)}"

    @property
    def section(self) -> str:
        """Where the documentation is summed up."""
        return (
            "§4.1"
            if self._about_signature and self.call.dialect is Dialect.LICENSE_1_0
            else ("§4.2" if self._about_signature else self.call.section)
        )

    @property
    def advice(self) -> str:
        """What to do when it fails."""
        return ADVICE[self.misdeed]

    @property
    def _about_signature(self) -> bool:
        return self.passes == _UNAUTHENTICATED


_SUCCESS: Final = frozenset({CallbackCode.SUCCESS})
_UNAUTHENTICATED: Final = frozenset({CallbackCode.UNAUTHENTICATED})
_INVALID: Final = frozenset({CallbackCode.INVALID_PARAMETER})
_UNKNOWN: Final = frozenset({CallbackCode.UNKNOWN_LICENSE})

ADVICE: Final[Mapping[Misdeed, str]] = {
    Misdeed.NONE: "answer a debug case (testFlag=1) with 000000 whatever the code or order; it is replayed every morning and afternoon",
    Misdeed.REPEATED: "answer the same case alike every time: no counters, no clocks, no state behind testFlag=1",
    Misdeed.OTHER_CASE: "compare the hexadecimal signature without regard to its case",
    Misdeed.UNKNOWN_FIELD: "ignore fields that you do not know: the marketplace adds some within a version",
    Misdeed.WRONG_SIGNATURE: "verify the signature of every call with the key (Key值) of the seller center",
    Misdeed.CHANGED_AFTERWARDS: "hash the bytes of the body as received, or every parameter but authToken, before you parse them",
    Misdeed.UNSIGNED: "refuse calls without signature",
    Misdeed.STALE: "refuse timestamps that are more than 60 s from your clock, and keep that clock right",
    Misdeed.EARLY: "refuse timestamps that are more than 60 s from your clock, and keep that clock right",
    Misdeed.REPLAYED: "remember each nonce for 2 minutes, in a store that all your processes share, and refuse it the second time",
    Misdeed.MISSING: "check that mandatory fields are there, also in debug cases",
    Misdeed.TOO_LONG: "check the documented lengths, also in debug cases",
    Misdeed.NO_CHOICE: "accept the documented values only",
    Misdeed.UNKNOWN_ACTIVITY: "answer 000002 for an activity that you do not serve",
    Misdeed.UNREADABLE: "answer 000002 with HTTP 200 when the body cannot be read",
    Misdeed.UNKNOWN_CODE: "answer 000003 when you do not know the license code; the marketplace tries again",
}

_ORDER: Final = {
    "orderId": Field(value="CS2211181819B4LVS", length=64),
    "orderLineId": Field(value="CS2211181819B4LVS-000001", length=64),
}
_CODE: Final = Field(value="PLTEST0001", length=64)
_STAMP: Final = Field(value="20301231155959", length=20)
_REFRESH: Final = {
    **_ORDER,
    "license": _CODE,
    "expireTime": _STAMP,
    "productId": Field(value="OFFI0001", length=64, mandatory=False),
}
_SCENES: Final = ("RENEWAL", "UNSUBSCRIBE_RENEWAL_PERIOD")
_STATUSES: Final = ("FREEZE", "UNFREEZE")
_INSTANCE: Final = {"orderId": _ORDER["orderId"], "instanceId": Field(value="4ef28f-312d3d-gad335f-3132hkf", length=64)}
_REFUND: Final = {name: msgspec.structs.replace(field, mandatory=False) for name, field in _ORDER.items()}


def _activity(name: str, length: int) -> dict[str, Field]:
    return {"activity": Field(value=name, length=length)}


CALLS: Final = (
    *(
        Documented(
            name=f"refreshLicenseCode {scene}",
            dialect=Dialect.LICENSE_2_0,
            section="§2.1.1",
            fields={**_activity("refreshLicenseCode", 20), "scene": Field(value=scene, length=64, choices=_SCENES), **_REFRESH},
        )
        for scene in _SCENES
    ),
    *(
        Documented(
            name=f"updateLicenseCodeStatus {status}",
            dialect=Dialect.LICENSE_2_0,
            section="§2.1.2",
            fields={**_activity("updateLicenseCodeStatus", 32), "license": _CODE, "status": Field(value=status, length=32, choices=_STATUSES)},
        )
        for status in _STATUSES
    ),
    Documented(
        name="releaseLicenseCode after a refund",
        dialect=Dialect.LICENSE_2_0,
        section="§2.1.3",
        fields={**_activity("releaseLicenseCode", 32), "license": _CODE, **_REFUND},
    ),
    Documented(
        name="releaseLicenseCode",
        dialect=Dialect.LICENSE_2_0,
        section="§2.1.3",
        fields={**_activity("releaseLicenseCode", 32), "license": _CODE},
    ),
    Documented(
        name="orderNotify",
        dialect=Dialect.LICENSE_2_0,
        section="§2.5",
        fields={**_activity("orderNotify", 20), "orderId": _ORDER["orderId"], "orderLineId": _REFUND["orderLineId"]},
    ),
    Documented(
        name="getLicense",
        dialect=Dialect.LICENSE_1_0,
        section="§2.2",
        fields={
            **_activity("getLicense", 20),
            "customerId": Field(value="68cbc86abc2018ab880d92f36422fa0e", length=100),
            "customerName": Field(value="buyer", length=64, mandatory=False),
            "businessId": Field(value="61e834ba-7b97-4418-b8f7-e5345137278c", length=64),
            "orderId": Field(value="CS1906666666ABCDE", length=64),
            "productId": Field(value="00301-666666-0--0", length=64),
            "expireTime": msgspec.structs.replace(_STAMP, mandatory=False),
            "periodType": Field(value="year", length=10, mandatory=False),
        },
    ),
    Documented(
        name="refreshLicense",
        dialect=Dialect.LICENSE_1_0,
        section="§2.2",
        fields={**_activity("refreshLicense", 20), **_INSTANCE, "expireTime": _STAMP},
        inferred=True,
    ),
    Documented(
        name="expireLicense", dialect=Dialect.LICENSE_1_0, section="§2.2", fields={**_activity("expireLicense", 20), **_INSTANCE}, inferred=True,
    ),
    Documented(
        name="releaseLicense", dialect=Dialect.LICENSE_1_0, section="§2.2", fields={**_activity("releaseLicense", 20), **_INSTANCE}, inferred=True,
    ),
)  # fmt: skip
"""Every call of both dialects. Whether the three last know a testFlag is not documented, so they are told and do not count."""

MISDEEDS: Final[Mapping[Misdeed, frozenset[str]]] = {
    Misdeed.NONE: _SUCCESS,
    Misdeed.REPEATED: _SUCCESS,
    Misdeed.OTHER_CASE: _SUCCESS,
    Misdeed.UNKNOWN_FIELD: _SUCCESS,
    Misdeed.WRONG_SIGNATURE: _UNAUTHENTICATED,
    Misdeed.CHANGED_AFTERWARDS: _UNAUTHENTICATED,
    Misdeed.UNSIGNED: _UNAUTHENTICATED,
    Misdeed.STALE: _UNAUTHENTICATED,
    Misdeed.EARLY: _UNAUTHENTICATED,
    Misdeed.REPLAYED: _UNAUTHENTICATED,
    Misdeed.MISSING: _INVALID,
    Misdeed.TOO_LONG: _INVALID,
    Misdeed.NO_CHOICE: _INVALID,
    Misdeed.UNKNOWN_ACTIVITY: _INVALID,
    Misdeed.UNREADABLE: _INVALID,
}
"""What is done to calls, and the result codes that pass."""

_ONCE: Final = frozenset({Misdeed.UNKNOWN_ACTIVITY, Misdeed.UNREADABLE})
"""Cases that are alike for all calls of a dialect: the first call has them."""
_URL_SIGNATURE_ONLY: Final = frozenset({Misdeed.OTHER_CASE, Misdeed.REPLAYED, Misdeed.EARLY, Misdeed.UNREADABLE})
"""What there is no such thing of in License 1.0: base64 has one case, and no window is documented for its timeStamp."""
_NOT_SETTLED: Final = frozenset({(Dialect.LICENSE_1_0, Misdeed.STALE)})


def cases(dialects: frozenset[Dialect], *, live: bool = False) -> Iterator[Case]:
    """Every case of these dialects; `live` adds the one without testFlag, about a code that does not exist."""
    for dialect in Dialect:
        calls = [call for call in CALLS if call.dialect is dialect and dialect in dialects]
        for number, call in enumerate(calls):
            for misdeed, passes in MISDEEDS.items():
                if misdeed in _ONCE and number:
                    continue
                if misdeed in _URL_SIGNATURE_ONLY and dialect is Dialect.LICENSE_1_0:
                    continue
                must = not call.inferred and (dialect, misdeed) not in _NOT_SETTLED
                for field in _fields(call, misdeed):
                    yield Case(call=call, misdeed=misdeed, field=field, passes=passes, must=must)
    if live and Dialect.LICENSE_2_0 in dialects:
        frozen = next(call for call in CALLS if call.name == "updateLicenseCodeStatus FREEZE")
        yield Case(call=frozen, misdeed=Misdeed.UNKNOWN_CODE, passes=_UNKNOWN)


def _fields(call: Documented, misdeed: Misdeed) -> list[str]:
    """The fields that a misdeed is done to, one case each; [""] where it is done to the call as a whole."""
    match misdeed:
        case Misdeed.MISSING:
            return [name for name, field in call.fields.items() if field.mandatory]
        case Misdeed.TOO_LONG:
            return [name for name in call.fields if name != "activity"]
        case Misdeed.NO_CHOICE:
            return [name for name, field in call.fields.items() if field.choices]
    return [""]
