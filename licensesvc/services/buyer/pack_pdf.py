"""A delivery pack as a PDF, with the Chinese in it embedded; needs the extra `pdf`.

In: rows of text that somebody else has worded, and a QR code. Out: the words (web/buyer/texts.py). Only `delivery_packs.py` imports this.
"""

from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from typing import Final

import pylopdf_fonts_zh_cn
import segno
from fpdf import FPDF
from fpdf.enums import WrapMode, XPos, YPos

FONT: Final = "sans"
QR_MM: Final = 50.0
"""Edge of the QR code on paper: a statement of some 500 characters is dense."""

ROW_MM: Final = 17.0
"""Room that a row takes at least: a name, and two lines of value."""

Section = tuple[str, Sequence[tuple[str, str]]]
"""A heading, and rows of a name and a value."""


def pack_pdf(title: str, sections: Sequence[Section], *, link: str, link_text: str, made_at: datetime) -> bytes:
    """Return the document; equal arguments give equal bytes. Takes a second or two, so never on the event loop."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(made_at)
    pdf.set_title(title)
    pdf.set_margin(18)
    pdf.set_auto_page_break(True, margin=18)
    pdf.add_font(FONT, fname=str(pylopdf_fonts_zh_cn.sans_path()))
    pdf.add_page()
    pdf.set_font(FONT, size=18)
    pdf.multi_cell(0, 10, title, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    for heading, rows in sections:
        pdf.ln(3)
        pdf.set_font(FONT, size=13)
        pdf.multi_cell(0, 8, heading, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        pdf.set_draw_color(200)
        pdf.line(pdf.l_margin, pdf.get_y(), pdf.w - pdf.r_margin, pdf.get_y())
        pdf.ln(1)
        for name, value in rows:
            _row(pdf, name, value)
    if pdf.get_y() + QR_MM + 12 > pdf.h - 18:
        pdf.add_page()
    pdf.ln(4)
    pdf.set_font(FONT, size=11)
    pdf.multi_cell(0, 7, link_text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    picture = BytesIO()
    segno.make_qr(link, error="l").save(picture, kind="png", scale=8, border=4)
    pdf.image(picture, w=QR_MM, h=QR_MM, alt_text=link_text)
    return bytes(pdf.output())


def _row(pdf: FPDF, name: str, value: str) -> None:
    if pdf.will_page_break(ROW_MM):  # a name stays with its value
        pdf.add_page()
    if name:
        pdf.set_font(FONT, size=9)
        pdf.set_text_color(80)
        pdf.multi_cell(0, 5, name, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_text_color(0)
    pdf.set_font(FONT, size=10)
    pdf.multi_cell(0, 5.5, value or "–", new_x=XPos.LMARGIN, new_y=YPos.NEXT, wrapmode=WrapMode.CHAR)
    pdf.ln(1)
