"""What each gauge of the delisting guard means and what to do next, in the languages that alerts are written in."""

from collections.abc import Mapping
from typing import Final

import msgspec

from licensesvc.domain.alerts import Event
from licensesvc.domain.delisting import Gauge, Level
from licensesvc.services.mail.mail_code import Language


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """A gauge in words."""

    title: str
    meaning: str
    action: str


_EN: Final = Language.ENGLISH
_ZH: Final = Language.CHINESE

WORDS: Final[Mapping[Gauge, Mapping[Language, Words]]] = {
    Gauge.FAILED_ORDERS: {
        _EN: Words(
            title="Failed orders this month",
            meaning=(
                "Orders whose delivery failed until the marketplace stopped trying. More than 5 in a calendar month delist the"
                " product. We count at least what is shown: calls that never reached this server are not in it."
            ),
            action=(
                "Look at the failed interface messages, mend the cause (product mapping, database, key), then restart each order under"
                " 卖家中心 > 生产接口消息. Compare with the marketplace's own count and enter it here."
            ),
        ),
        _ZH: Words(
            title="本月失败订单",
            meaning=(
                "直到云商店停止重试仍未交付成功的订单。自然月内超过 5 个订单失败，商品将被下架。此处为至少的数量：未到达本服务的调用不在其中。"
            ),
            action=(
                "查看失败的接口消息并排除原因（商品映射、数据库、密钥），再到 卖家中心 > 生产接口消息 逐个重新启动；"
                "核对云商店自己的统计并录入本服务。"
            ),
        ),
    },
    Gauge.PROBE_FAILURES: {
        _EN: Words(
            title="Days in a row on which a replayed debug case failed",
            meaning=(
                "The marketplace replays the saved debug cases every morning and afternoon. 5 failing days in a row freeze trade and hide"
                " the product; it may be delisted."
            ),
            action=(
                "Find the messages with purpose test that were not answered with 000000, mend the cause, and run the cases again under"
                " 应用接入管理 > 生产地址管理. While nothing is on sale, declare so."
            ),
        ),
        _ZH: Words(
            title="调试用例回放连续失败天数",
            meaning="云商店每天上午和下午回放已保存的调试用例。连续 5 天失败将冻结交易并隐藏商品，且可能下架。",
            action=(
                "找出用途为 test 且未返回 000000 的接口消息，排除原因后在 应用接入管理 > 生产地址管理 重新调试；"
                "商品未在售时请在本服务中声明。"
            ),
        ),
    },
    Gauge.PROBE_SILENCE: {
        _EN: Words(
            title="Days without a replayed debug case",
            meaning=(
                "No debug case has come since yesterday morning, though the marketplace replays them twice a day while a product is on"
                " sale. Probes that do not reach this server fail for the marketplace, and so do its orders."
            ),
            action=(
                "Check from outside that the production URL answers (DNS, certificate, firewall, proxy), and look for messages of"
                " unproven senders: the key may have been changed. While nothing is on sale, declare so."
            ),
        ),
        _ZH: Words(
            title="未收到调试用例回放的天数",
            meaning=(
                "自昨日上午起未收到任何调试用例，而商品在售期间云商店每天回放两次。未到达本服务的回放对云商店而言即为失败，订单同样如此。"
            ),
            action=(
                "从外网确认生产地址可访问（域名解析、证书、防火墙、代理），并查看发送方未验证的消息：密钥可能已被更换；商品未在售时请在本服务中声明。"
            ),
        ),
    },
    Gauge.RETRY_WINDOW: {
        _EN: Words(
            title="Retries used up by a failing call (percent)",
            meaning=(
                "A call of the marketplace fails, and this share of its documented retries is used. At 100 it has stopped trying: the order"
                " fails, or a renewal, freeze or release is lost."
            ),
            action=(
                "Mend the cause before the window closes, then the next try succeeds by itself. Afterwards restart the call under"
                " 卖家中心 > 生产接口消息."
            ),
        ),
        _ZH: Words(
            title="失败调用已用的重试（百分比）",
            meaning="云商店的某次调用持续失败，其文档规定的重试已用去此比例。达到 100 即停止重试：订单失败，或续费、冻结、释放丢失。",
            action="请在重试窗口关闭前排除原因，下一次重试将自动成功；窗口关闭后请到 卖家中心 > 生产接口消息 重新启动。",
        ),
    },
    Gauge.OPEN_API_REFUSALS: {
        _EN: Words(
            title="Refusals in a row of our calls to the marketplace",
            meaning="More than 5 refused signatures in a row lock the AK/SK of this connection for 5 minutes.",
            action=(
                "Check the AK/SK of the connection, its programmatic access, and the clock of this host (it may be 15 minutes off at most)."
            ),
        ),
        _ZH: Words(
            title="我方调用连续被拒次数",
            meaning="签名连续被拒超过 5 次，该连接的 AK/SK 将被锁定 5 分钟。",
            action="检查该连接的 AK/SK、其编程访问权限，以及本机时钟（偏差不得超过 15 分钟）。",
        ),
    },
    Gauge.SOFTWARE_LOCKS: {
        _EN: Words(
            title="Software credentials that are locked",
            meaning=(
                "Calls with the access key of software you sell had more than 5 bad signatures in a row; such a credential is locked for 5"
                " minutes for the address they came from."
            ),
            action=(
                "Look at the access lines with status 401: a program with an old secret key, a clock that is off, or somebody who tries."
                " A key that leaked: revoke the credential."
            ),
        ),
        _ZH: Words(
            title="被锁定的软件凭证",
            meaning="使用您所售软件访问密钥的调用连续超过 5 次签名错误；该凭证对相应来源地址锁定 5 分钟。",
            action="查看状态码为 401 的访问日志：程序使用旧密钥、时钟偏差，或有人试探；密钥泄露时请吊销该凭证。",
        ),
    },
}

LEVELS: Final[Mapping[Language, Mapping[Level, str]]] = {
    _EN: {Level.OK: "well again", Level.WARN: "warning", Level.CRITICAL: "critical"},
    _ZH: {Level.OK: "已恢复", Level.WARN: "警告", Level.CRITICAL: "严重"},
}
EVENTS: Final[Mapping[Language, Mapping[Event, str]]] = {
    _EN: {
        Event.RAISED: "A gauge of the delisting guard needs you.",
        Event.REPEATED: "This has been critical for a day and nobody has acknowledged it.",
        Event.CLEARED: "This is below its thresholds again. What was given up meanwhile still needs a restart by hand.",
    },
    _ZH: {
        Event.RAISED: "下架预警：有指标需要您处理。",
        Event.REPEATED: "该指标处于严重状态已满一天，且无人确认。",
        Event.CLEARED: "该指标已回落到阈值以下；期间被放弃的调用仍需人工重新启动。",
    },
}
TEST: Final[Mapping[Language, str]] = {
    _EN: "This is a test that an operator asked for. Nothing is wrong.",
    _ZH: "这是管理员发起的测试，一切正常。",
}
