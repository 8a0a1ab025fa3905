"""history.csv of a run: one row for each validation. What it says is part of the run's state, so it is read back."""

import csv
import io

from rdi_tf.errors import DataError
from rdi_tf.runs import write_atomic

_NEEDED = {"iteration", "clean_accuracy", "robust_accuracy"}


def accuracies_in_words(row, attacked):
    """Of a validation: "98.33% clean, 51.53% robust"; clean alone where nothing attacked, since robust repeats it."""
    clean = f"{row['clean_accuracy']:.2%} clean"
    return f"{clean}, {row['robust_accuracy']:.2%} robust" if attacked else clean


class History:
    """The rows of a run's history.csv; every change appears in the file at once and whole."""

    def __init__(self, path):
        """Read `path`, a history.csv that may not be there yet; `DataError` if it is something else."""
        self._path = path
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            self._rows = list(csv.DictReader(io.StringIO(text)))
            rows = self.rows
            if any(row.keys() != rows[0].keys() or not _NEEDED <= row.keys() for row in rows):
                raise ValueError(f"other columns than {', '.join(sorted(_NEEDED))} and the same in every row")
        except (csv.Error, TypeError, ValueError) as error:
            raise DataError(f"{path}: expected a training's history, got {error}") from error

    @property
    def rows(self):
        """One dictionary for each validation, oldest first: name of column -> number, "iteration" an integer."""
        return tuple({name: (int if name == "iteration" else float)(row[name]) for name in row} for row in self._rows)

    @property
    def best(self):
        """The row whose weights were kept, the first with the highest robust accuracy; None without rows."""
        return max(self.rows, key=lambda row: row["robust_accuracy"], default=None)

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
        return self.best is None or float(f"{robust_accuracy:.6g}") > self.best["robust_accuracy"]

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
