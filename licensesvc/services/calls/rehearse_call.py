"""The twin that answers debug cases (testFlag=1): the documented success of every call, out of the call alone.

It has no state and asks none: the marketplace replays its saved cases every morning and afternoon, in any order, and takes a product whose
answers fail for five days off sale (spec §2.0).
"""

import hashlib

from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.callbacks import Call, GetLicense, NewInstance
from licensesvc.marketplace.huawei.result_codes import CallbackCode


def answer(call: Call) -> bytes:
    """The answer to a debug case whose signature and fields are in order; the same for the same order, in every process."""
    match call:
        case GetLicense():
            mark = _mark(call.order_id)
            return callbacks.get_license_success(f"TEST-{mark}", f"test-{mark}")
        case NewInstance():
            return callbacks.new_instance_success(f"test-{_mark(call.order_line_id)}")
    return callbacks.result(CallbackCode.SUCCESS)


def _mark(bought: str) -> str:
    return hashlib.sha256(f"test-delivery\0{bought}".encode()).hexdigest()[:32]
