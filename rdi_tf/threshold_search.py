"""Search for the thresholds of an exit rule that are best by accuracy and cost; part of `rdi_tf.thresholds`."""

from dataclasses import dataclass

import numpy as np

from rdi_tf.policies import first_exit

CANDIDATES = 200  # cuts per exit that a search tries; more would fit the noise of a few thousand calibration images
TRADE_OFFS = 24  # prices of computation from which a search starts


@dataclass(frozen=True)
class ThresholdSearch:
    """Coordinate ascent over thresholds, each line searched exactly, from many starts.

    With the other thresholds fixed, accuracy and cost at every cut of one exit follow from one cumulative sum over the
    images that arrive there. A constrained objective alone gets stuck where one threshold has to fall for another to
    rise, so the starts are the optima for a ladder of prices of computation (accuracy - price * cost), which crosses
    all trade-offs from the cheapest to the dearest. MSDNet searches one number, the ratio of a geometric series of
    shares; that cannot skip a weak exit between good ones, this can. It remains a heuristic, held against brute force
    by its tests.

    Attributes:
      cuts: for each early exit, the thresholds tried, increasing, from closed to open.
      above: (n, exits - 1), how many of its exit's cuts are at or below each score: an image leaves at cut j >= above.
      correct: (n, exits), 1.0 where the exit's call is right.
      macs: (exits,), executed multiply-adds.
    """

    cuts: tuple
    above: np.ndarray
    correct: np.ndarray
    macs: np.ndarray

    @classmethod
    def over(cls, policy, scores, correct, macs):
        """Prepare: `scores` (n, exits) of the calibration images under a `Policy`; the others as the attributes."""
        early = scores[:, :-1].T
        cuts = tuple(_cuts(policy, column) for column in early)
        above = [np.searchsorted(cut, column, side="right") for cut, column in zip(cuts, early, strict=True)]
        return cls(cuts, np.array(above, int).reshape(early.shape).T, correct.astype(np.float64), macs)

    def accurate(self, accuracy, macs):
        """Accuracy first; among equals (accuracies are at least 1/n apart) the cheaper."""
        return accuracy - macs / (2 * len(self.correct) * self.macs[-1])

    def best(self, value, starts=()):
        """Thresholds that maximise `value(accuracy, macs)`, -inf where a constraint is broken.

        One start at least has to keep the constraint: the cheapest trade-off does for a budget, `starts` may add more.
        """
        choice = self.best_choice(value, starts)
        return tuple(float(cut[j]) for cut, j in zip(self.cuts, choice, strict=True))

    def best_choice(self, value, starts=()):
        ends = {self.ascend(start, value) for start in (*starts, *self.trade_offs())}
        return max(sorted(ends), key=lambda choice: value(*self.evaluate(choice)))

    def trade_offs(self):
        """Optima for prices from all to nothing, found downward from all-open and upward from all-closed."""
        opened, closed = tuple(len(cut) - 1 for cut in self.cuts), (0,) * len(self.cuts)
        prices = np.geomspace(10, 1 / (2 * len(self.correct)), TRADE_OFFS) / self.macs[-1]
        starts = [opened, closed]
        for choice, ladder in ((opened, prices), (closed, prices[::-1])):
            for price in ladder:
                choice = self.ascend(choice, lambda accuracy, macs, price=price: accuracy - price * macs)
                starts.append(choice)
        return list(dict.fromkeys(starts))

    def ascend(self, choice, value):
        """Move one threshold at a time to its best cut until none improves."""
        choice, reached, improved = list(choice), value(*self.evaluate(choice)), True
        while improved:
            improved = False
            for k in range(len(choice)):
                values = value(*self.line(choice, k))
                if values.max() > reached:
                    choice[k], reached, improved = int(values.argmax()), values.max(), True
        return tuple(choice)

    def evaluate(self, choice):
        """Accuracy and average multiply-adds with cut choice[k] at exit k."""
        exits = first_exit(np.asarray(choice, int) >= self.above)
        return self.correct[np.arange(len(exits)), exits].mean(), self.macs[exits].mean()

    def line(self, choice, k):
        """As `evaluate`, for every cut of exit k: two arrays (number of cuts,)."""
        leaves = np.asarray(choice, int) >= self.above
        arrived = ~leaves[:, :k].any(axis=1)
        leaves[:, k] = False
        otherwise = first_exit(leaves)
        rows = np.arange(len(leaves))
        right, spent = self.correct[rows, otherwise], self.macs[otherwise]
        where = self.above[arrived, k]

        def along(change, total):
            return (total + np.bincount(where, change[arrived], len(self.cuts[k])).cumsum()) / len(rows)

        return along(self.correct[:, k] - right, right.sum()), along(self.macs[k] - spent, spent.sum())


def _cuts(policy, scores):
    """Closed, cuts between distinct scores (all of them, or those nearest to even quantiles), open."""
    ordered = np.sort(scores)
    ends = np.flatnonzero(ordered[1:] > ordered[:-1])
    if len(ends) > CANDIDATES:
        wanted = np.linspace(0, len(ordered), CANDIDATES + 2)[1:-1]
        ends = np.unique(ends[np.searchsorted(ends, wanted).clip(max=len(ends) - 1)])
    return np.array([policy.closed, *between(ordered[ends], ordered[ends + 1]), policy.open])


def between(low, high):
    """Halfway, and above `low` even where the two are neighbours in floating point."""
    middle = low + (high - low) / 2
    return np.where(middle > low, middle, high)
