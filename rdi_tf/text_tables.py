"""Tables of strings as text: aligned for a terminal, or in Markdown. No TensorFlow."""


def aligned(header, rows):
    """A table with aligned columns; columns of numbers (given as strings) are aligned to the right.

    Args:
      header: names of the columns.
      rows: sequences of strings, as long as the header.

    Returns:
      Lines joined by newlines.
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() or cell[:1] in "-+." for cell in column[1:]) for column in columns]
    lines = []
    for row in (header, *rows):
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(header, rows):
    """A table in Markdown, the first column to the left and the others to the right; arguments as `aligned`'s.

    Returns:
      Lines joined by newlines.
    """
    lines = (header, ("---", *("---:" for _ in header[1:])), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
