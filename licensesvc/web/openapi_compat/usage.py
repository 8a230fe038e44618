"""Reports of use (spec §1.5)."""

from collections import defaultdict
from collections.abc import Sequence
from functools import reduce

from licensesvc.domain.usage import day_of, larger
from licensesvc.marketplace.huawei.usage import MAX_BODY, CodeReport, UsageRequest, parse_usage, usage_success
from licensesvc.services.access.authenticate_software import Caller
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.report_usage import Report, report_usage
from licensesvc.services.runtime import Runtime
from licensesvc.web.openapi_compat.endpoint import Answered, Call
from licensesvc.web.openapi_compat.words import LICENSE_WORDS


def usage_calls(rt: Runtime) -> list[Call]:
    """The report of use."""

    async def software_usage_info(caller: Caller, request: UsageRequest) -> Answered:
        sent: dict[str, str] = {}
        reports: defaultdict[str, list[CodeReport]] = defaultdict(list)
        for said in request.usage_info:
            index = code_index(rt, said.license)
            sent.setdefault(index, said.license)
            reports[index].append(said)
        refused = await report_usage(
            rt,
            {index: _together(said) for index, said in reports.items()},
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            day=day_of(rt.clock(), caller.connection.calendar),
        )
        failed = refused.unknown | refused.not_activated
        check_fail_list = [code for index, code in sent.items() if index in failed]
        return Answered(usage_success(check_fail_list), unknown=len(refused.unknown))

    return [
        Call(
            path="/v2/license/software-usage-info",
            read=parse_usage,
            decide=software_usage_info,
            words=LICENSE_WORDS,
            body_limit=MAX_BODY,
        )
    ]


def _together(said: Sequence[CodeReport]) -> Report:
    """What entries for the same code say."""
    return Report(
        clients=frozenset().union(*(entry.clients for entry in said)),
        active_num=reduce(larger, (entry.active_num for entry in said)),
    )
