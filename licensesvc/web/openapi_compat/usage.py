"""Reports of use (spec §1.5)."""

from licensesvc.domain.usage import day_of, larger
from licensesvc.marketplace.huawei.usage import MAX_BODY, UsageRequest, parse_usage, usage_success
from licensesvc.services.authenticate_software import Caller
from licensesvc.services.issue_license import code_index
from licensesvc.services.report_usage import Report, report_usage
from licensesvc.services.runtime import Runtime
from licensesvc.web.openapi_compat.endpoint import Answered, Call
from licensesvc.web.openapi_compat.words import LICENSE_WORDS


def usage_calls(rt: Runtime) -> list[Call]:
    """The report of use."""

    async def software_usage_info(caller: Caller, request: UsageRequest) -> Answered:
        sent: dict[str, str] = {}
        reports: dict[str, Report] = {}
        for said in request.usage_info:
            index = code_index(rt, said.license)
            sent.setdefault(index, said.license)
            known = reports.get(index, Report())
            reports[index] = Report(
                clients=known.clients | said.clients, active_num=larger(known.active_num, said.active_num)
            )
        refused = await report_usage(
            rt,
            reports,
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
