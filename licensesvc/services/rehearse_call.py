"""The twin that answers debug cases (testFlag=1): the documented success of every call, out of the call alone.

It has no state and asks none: the marketplace replays its saved cases every morning and afternoon, in any order, and takes a product whose
answers fail for five days off sale (spec §2.0).
"""

import hashlib

from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.callbacks import Call, GetLicense
from licensesvc.marketplace.huawei.result_codes import CallbackCode


def answer(call: Call) -> bytes:
    """The answer to a debug case whose signature and fields are in order; the same for the same order, in every process."""
    if isinstance(call, GetLicense):
        mark = hashlib.sha256(f"test-delivery\0{call.order_id}".encode()).hexdigest()[:32]
        return callbacks.get_license_success(f"TEST-{mark}", f"test-{mark}")
    return callbacks.result(CallbackCode.SUCCESS)
