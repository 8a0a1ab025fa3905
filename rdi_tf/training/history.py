"""history.csv of a run: one row for each validation. What it says is part of the run's state, so it is read back."""

import csv
import io

from rdi_tf.runs import write_atomic


class History:
    """The rows of a run's history.csv; every change appears in the file at once and whole."""

    def __init__(self, path):
        """Read `path`, a history.csv that may not be there yet."""
        self._path = path
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        self._rows = list(csv.DictReader(io.StringIO(text)))

    @property
    def rows(self):
        """One dictionary for each validation, oldest first: name of column -> text as in the file."""
        return tuple(self._rows)

    def add(self, iteration, figures):
        """Append a row.

        Args:
          iteration: number of finished iterations.
          figures: dictionary name -> number; every row has the same names.
        """
        row = {"iteration": str(iteration), **{name: f"{value:.6g}" for name, value in figures.items()}}
        self._write([*self._rows, row])

    def trim(self, iteration):
        """Drop the validations after an iteration: a run that goes on from there will make them again."""
        kept = [row for row in self._rows if int(row["iteration"]) <= iteration]
        if len(kept) < len(self._rows):
            self._write(kept)

    def has(self, iteration):
        """Whether the validation after an iteration was finished."""
        return any(int(row["iteration"]) == iteration for row in self._rows)

    def is_best(self, robust_accuracy):
        """Whether an accuracy, rounded as the file rounds, is above those of all rows."""
        best = max((float(row["robust_accuracy"]) for row in self._rows), default=-1.0)
        return float(f"{robust_accuracy:.6g}") > best

    def _write(self, rows):
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, fieldnames=list(rows[-1]))
            writer.writeheader()
            writer.writerows(rows)
            write_atomic(self._path, text.getvalue())
        else:
            self._path.unlink(missing_ok=True)
        self._rows = rows
