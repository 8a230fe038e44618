"""The words of the buyer's page and of the delivery pack, in Chinese and English; the node names are the marketplace's (spec §6.3)."""

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = ("zh-CN", "en")

_TABLE: Final[Mapping[str, tuple[str, str]]] = {
    "title": ("订单进度与验收", "Order progress and acceptance"),
    "other_language": ("English", "中文"),
    "skip": ("跳到主要内容", "Skip to content"),
    "order": ("订单号", "Order"),
    "line": ("订单行", "Order line"),
    "product": ("商品", "Product"),
    "now": ("当前进度", "Where it stands"),
    "progress": ("进度", "Progress"),
    "turn": ("待处理方", "Who acts next"),
    "due": ("请在此之前处理", "Act before"),
    "no_due": ("没有规定期限", "no fixed date"),
    "done_step": ("已完成", "done"),
    "current_step": ("当前", "current"),
    "future_step": ("未开始", "to come"),
    "actions": ("您现在可以", "What you can do now"),
    "no_actions": ("目前不需要您操作。", "There is nothing for you to do at the moment."),
    "claim": ("领取授权码", "Claim the license code"),
    "submit_code": ("提交识别码", "Submit the identification code"),
    "show_code": ("查看授权码", "Show the license code"),
    "accept": ("确认验收", "Accept the delivery"),
    "reject": ("验收不通过", "Reject the delivery"),
    "confirm_claim": ("是，领取", "Yes, claim it"),
    "confirm_accept": ("是，验收通过", "Yes, accept it"),
    "confirm_reject": ("提交：验收不通过", "Reject"),
    "confirm_submit_code": ("提交识别码", "Submit the code"),
    "confirm_show_code": ("显示授权码", "Show the code"),
    "ask_claim": ("确认领取授权码？", "Claim the license code?"),
    "ask_accept": ("确认验收通过？", "Accept the delivery?"),
    "ask_reject": ("说明验收不通过的原因", "Say why you reject the delivery"),
    "ask_submit_code": ("提交系统识别码或硬件识别码", "Submit the system or hardware code"),
    "ask_show_code": ("显示授权码？", "Show the license code?"),
    "claim_warning": (
        "领取后不能再协商退订。领取即视为您接收了授权码。",
        "Once you have claimed the code, a negotiated refund is no longer possible.",
    ),
    "claim_text": ("领取后即可查看并激活授权码。", "You can see and activate the code once you have claimed it."),
    "accept_text": (
        "请先查看交付证明并确认软件可用，再验收。验收后不能撤回。",
        "Look at the proofs and make sure that the software works first. An acceptance cannot be taken back.",
    ),
    "reject_text": ("卖家会看到您写的原因和附件。", "The seller will see your reason and your files."),
    "submit_text": ("卖家按此识别码制作授权。", "The seller makes the license for this code."),
    "show_text": ("授权码是机密，请勿转发。查看会被记录。", "The code is confidential. Showing it is recorded."),
    "back": ("返回", "Back"),
    "reason": ("原因（必填，最多 1000 字）", "Reason (required, at most 1,000 characters)"),
    "files": (
        "附件（可选，最多 5 个，每个不超过 20 MiB：PDF、PNG、JPEG、文本、Word、Excel、ZIP）",
        "Files (optional, at most 5 of 20 MiB each: PDF, PNG, JPEG, text, Word, Excel, ZIP)",
    ),
    "buyer_code": ("识别码（必填，最多 5120 字符）", "Identification code (required, at most 5,120 characters)"),
    "errors": ("请更正以下内容", "Please correct the following"),
    "error_reason": ("请填写原因，最多 1000 字。", "Enter a reason of at most 1,000 characters."),
    "error_code": ("请填写识别码，最多 5120 字符。", "Enter the code, at most 5,120 characters."),
    "error_files": (
        "附件类型不受支持，或文件为空。请使用 PDF、PNG、JPEG、文本、Word、Excel 或 ZIP。",
        "A file is empty or of a type that is not taken. Use PDF, PNG, JPEG, text, Word, Excel or ZIP.",
    ),
    "error_form": ("无法读取表单，或文件过大。", "The form could not be read, or it is too large."),
    "proofs": ("交付证明", "Proofs of delivery"),
    "no_proofs": ("还没有上传交付证明。", "No proof has been uploaded yet."),
    "download": ("下载", "Download"),
    "history": ("经过", "What happened"),
    "said": ("原因", "Reason"),
    "marketplace": (
        "这里记录的是您的意见。以云商店为准：请同时在「我的云商店 > 服务监管」中操作，验收在那里生效。",
        "This page records your word. Acceptance counts on the marketplace: please do the same under 我的云商店 > 服务监管 (My Marketplace > Service supervision).",
    ),
    "marketplace_link": ("打开我的云商店 > 服务监管", "Open 我的云商店 > 服务监管"),
    "refund": ("退订正在处理，流程暂停。", "A refund is under way; the flow waits."),
    "appeal": ("申诉正在处理，流程暂停。", "An appeal is under way; the flow waits."),
    "link_ends": ("此链接有效至", "This link works until"),
    "recorded": ("已记录。", "Recorded."),
    "your_code": ("授权码", "License code"),
    "gone_title": ("链接无效或已过期", "This link does not work"),
    "gone": (
        "链接可能已过期、已撤销或不完整。请向卖家索取新链接。",
        "It may have expired, been withdrawn, or be incomplete. Ask the seller for a new one.",
    ),
    "changed_title": ("已完成或内容已变化", "Already done, or changed"),
    "changed": (
        "您打开页面之后订单有了变化，或该操作已经完成。没有再次记录任何内容，请查看最新进度。",
        "The order has changed since you opened the page, or this was done already. Nothing was recorded again; please look again.",
    ),
    "look_again": ("查看最新进度", "Look again"),
    "slow_title": ("请稍后再试", "Please try again later"),
    "slow": ("尝试次数过多，请几分钟后再打开。", "Too many attempts. Please come back in a few minutes."),
    "failed_title": ("暂时无法显示", "Not available at the moment"),
    "failed": ("没有记录任何内容，请稍后再试。", "Nothing was recorded. Please try again later."),
    "actor.buyer": ("买家（您）", "the buyer (you)"),
    "actor.seller": ("商家", "the seller"),
    "actor.software": ("软件（激活）", "the software (activation)"),
    "actor.marketplace": ("云商店", "the marketplace"),
    "actor.system": ("系统", "the system"),
    "actor.operator": ("商家", "the seller"),
    "actor.none": ("无", "nobody"),
    "node.PAID": ("支付成功", "Paid"),
    "node.SUBMITTING": ("用户提交识别码", "Buyer submits the code"),
    "node.DELIVERING": ("商家实施交付", "Seller delivers"),
    "node.CLAIMING": ("用户领取授权码", "Buyer claims the code"),
    "node.ACTIVATING": ("授权码激活", "Code is activated"),
    "node.PROVING": ("商家上传交付证明", "Seller uploads the proof"),
    "node.REVIEWING": ("华为云复核", "Marketplace reviews"),
    "node.BUYER_CONFIRMING": ("用户确认验收", "Buyer accepts"),
    "node.ACCEPTED": ("已验收", "Accepted"),
    "node.COMPLETED": ("完成", "Completed"),
    "node.REFUNDED": ("已退订", "Refunded"),
    "event.started": ("开始", "Started"),
    "event.code_submitted": ("已提交识别码", "Identification code submitted"),
    "event.delivered": ("已交付", "Delivered"),
    "event.claimed": ("已领取授权码", "Code claimed"),
    "event.activated": ("已激活", "Activated"),
    "event.proof_uploaded": ("已上传交付证明", "Proof uploaded"),
    "event.review_approved": ("复核通过", "Review passed"),
    "event.review_returned": ("复核退回", "Review returned it"),
    "event.accepted": ("验收通过", "Accepted"),
    "event.rejected": ("验收不通过", "Rejected"),
    "event.completed": ("完成", "Completed"),
    "event.appealed": ("已申诉", "Appealed"),
    "event.ruled_continue": ("裁定：继续", "Ruled: go on"),
    "event.ruled_accepted": ("裁定：验收", "Ruled: accepted"),
    "event.ruled_refunded": ("裁定：退订", "Ruled: refunded"),
    "event.refund_asked": ("申请退订", "Refund asked for"),
    "event.refund_approved": ("同意退订", "Refund agreed"),
    "event.refund_refused": ("拒绝退订", "Refund refused"),
    "event.goods_sent_back": ("已寄回商品", "Goods sent back"),
    "event.goods_confirmed": ("验货通过", "Goods confirmed"),
    "event.goods_refused": ("验货不通过", "Goods refused"),
    "event.refunded": ("已退款", "Refunded"),
    "event.reopened": ("已重新打开", "Reopened"),
    "kind.requirement": ("需求说明", "Requirement"),
    "kind.acceptance": ("验收单", "Acceptance paper"),
    "kind.validity_screenshot": ("有效期截图", "Screenshot of the validity"),
    "kind.deployment_screenshot": ("部署截图", "Screenshot of the deployment"),
    "kind.other": ("其他", "Other"),
    "pack_title": ("交付证明包", "Delivery pack"),
    "license": ("授权", "License"),
    "code_hint": ("授权码（提示）", "Code (hint only)"),
    "state": ("状态", "State"),
    "seats": ("席位", "Seats"),
    "service_start": ("服务开始", "Service start"),
    "expires": ("有效期至", "Valid until"),
    "perpetual": ("永久", "perpetual"),
    "activation": ("激活证据", "Activation evidence"),
    "activated_at": ("激活时间", "Activated at"),
    "audit": ("审计链 / 序号 / 哈希", "Audit chain / seq / hash"),
    "not_activated": ("尚未激活", "not activated"),
    "sha": ("SHA-256", "SHA-256"),
    "size": ("字节", "bytes"),
    "no_license": ("此订单行没有授权。", "This order line has no license."),
    "made_at": ("生成时间", "Made at"),
    "verify": ("扫码核验", "Scan to verify"),
    "verify_title": ("核验交付证明包", "Verify a delivery pack"),
    "verify_same": ("属实：与我们保存的记录一致。", "Genuine: what the pack says is what we hold."),
    "verify_differs": (
        "签名属实，但此后记录有变化。请索取新的交付证明包。",
        "Genuine when it was made, but our records have changed since. Ask for a new pack.",
    ),
    "verify_unknown": (
        "这不是我们签发的交付证明包，或链接不完整。",
        "This is no pack of ours, or the link is incomplete.",
    ),
    "compare": (
        "请逐项比对纸面内容与下列信息。",
        "Compare what the paper says with what stands here.",
    ),
}

TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    language: {key: both[place] for key, both in _TABLE.items()} for place, language in enumerate(LANGUAGES)
}


def language_of(asked: str | None, accepted: str) -> str:
    """The language that was asked for, else the first of the header Accept-Language that we have, by quality."""
    if asked in LANGUAGES:
        return asked
    wishes = []
    for place, part in enumerate(accepted[:500].split(",")):
        name, _, weight = part.strip().partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        wishes.append((-quality, place, name.strip().lower()))
    for _, _, name in sorted(wishes):
        for language in LANGUAGES:
            if name.split("-")[0] == language.split("-")[0].lower():
                return language
    return LANGUAGES[0]
