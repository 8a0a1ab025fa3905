"""A page of headings, paragraphs, tables and pictures, as one self-contained HTML file or as Markdown. No TensorFlow.

The HTML needs no JavaScript and nothing from elsewhere; it follows the reader's choice of a light or dark page
(pictures keep their white ground) and fits narrow screens: wide tables and pictures scroll by themselves.
"""

import base64
import html
from dataclasses import dataclass

from rdi_tf.text_tables import markdown

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --line: #c8c8c8; --soft: #f2f2f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --line: #4a4a4a; --soft: #242424; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0.2rem 0; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { background: var(--soft); }
figure { margin: 1rem 0; overflow-x: auto; } figcaption { font-size: 0.9rem; }
img { display: block; max-width: 100%; min-width: 30rem; height: auto; background: #ffffff; border-radius: 4px; }
ul { padding-left: 1.2rem; } code { font-size: 0.9em; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notes:
    """A list of remarks.

    Attributes:
      lines: strings.
    """

    lines: tuple[str, ...]


@dataclass(frozen=True)
class TableBlock:
    """A table; the first column is a label.

    Attributes:
      title: its caption; may be empty.
      header: names of the columns.
      rows: sequences of strings, as long as the header.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
      name: of its file, without suffix.
      png: its bytes.
      alt: what it shows, for who does not see it.
      caption: how to read it.
    """

    name: str
    png: bytes
    alt: str
    caption: str


def to_html(title, blocks):
    """One HTML document; pictures are inside it.

    Args:
      title: of the page.
      blocks: `Heading`, `Paragraph`, `Notes`, `TableBlock` and `Picture`, in order.

    Returns:
      str.
    """
    body = "\n".join(_HTML[type(block)](block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def to_markdown(title, blocks):
    """Markdown text; pictures are files NAME.png in the same folder. Arguments as `to_html`'s."""
    body = "\n\n".join(_MARKDOWN[type(block)](block) for block in blocks)
    return f"# {_plain(title)}\n\n{body}\n"


def _html_table(block):
    caption = f"<caption>{html.escape(block.title)}</caption>" if block.title else ""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in block.header)
    rows = "\n".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in block.rows)
    # A region that scrolls must be within reach of the keyboard.
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(block.title or "table")}"><table>'
        f"{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _html_picture(block):
    source = base64.b64encode(block.png).decode("ascii")
    return (
        f'<figure tabindex="0"><img alt="{html.escape(block.alt)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{html.escape(block.caption)}</figcaption></figure>"
    )


_HTML = {
    Heading: lambda block: f"<h2>{html.escape(block.text)}</h2>",
    Paragraph: lambda block: f"<p>{html.escape(block.text)}</p>",
    Notes: lambda block: "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in block.lines) + "</ul>",
    TableBlock: _html_table,
    Picture: _html_picture,
}


def _markdown_table(block):
    header, *rows = ([_cell(cell) for cell in line] for line in (block.header, *block.rows))
    return (f"{_plain(block.title)}:\n\n" if block.title else "") + markdown(header, rows)


def _plain(text):
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in text)


def _cell(text):
    return text if set(text) <= set("-:") else _plain(text)


_MARKDOWN = {
    Heading: lambda block: f"## {_plain(block.text)}",
    Paragraph: lambda block: _plain(block.text),
    Notes: lambda block: "\n".join(f"- {_plain(line)}" for line in block.lines),
    TableBlock: _markdown_table,
    Picture: lambda block: f"![{_plain(block.alt)}]({block.name}.png)\n\n{_plain(block.caption)}",
}
