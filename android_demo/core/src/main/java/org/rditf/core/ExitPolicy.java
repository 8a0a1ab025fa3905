package org.rditf.core;

import java.util.Arrays;
import java.util.Locale;

/**
 * Exit rules: at which exit an image leaves, decided from exit logits alone.
 *
 * <p>What exit k says depends on exits up to k only. All arithmetic is double. rdi_tf/policies.py is the reference.
 */
public enum ExitPolicy {
    /** The paper's rule. */
    ENTROPY(-1, 1000),
    MAX_PROBABILITY(-1, 2),
    MARGIN(-1, 2),
    /** Minus the number of exits in a row that call the same class. */
    PATIENCE(-1e6, 0),
    RUNNING_AVERAGE(-1, 1000),
    WEIGHTED_RUNNING_AVERAGE(-1, 1000);

    /** A threshold that no score is below: nothing ever leaves there. */
    public final double closed;
    /** A threshold that every score is below: everything that arrives leaves there. */
    public final double open;

    ExitPolicy(double closed, double open) {
        this.closed = closed;
        this.open = open;
    }

    /** What a rule says at one exit. */
    public static final class Verdict {
        /** Probability of each class. */
        public final double[] probabilities;
        /** The class called. */
        public final int prediction;
        /** How unsure: low means sure. */
        public final double score;

        Verdict(double[] logProbabilities, double score) {
            probabilities = exponentials(logProbabilities);
            prediction = argmax(logProbabilities);
            this.score = score;
        }
    }

    /** The rule of a name in manifests; an unknown name throws. */
    public static ExitPolicy named(String name) throws BundleException {
        for (ExitPolicy policy : values()) {
            if (policy.manifestName().equals(name)) {
                return policy;
            }
        }
        throw new BundleException("policy: expected one of " + Arrays.toString(values()).toLowerCase(Locale.ROOT)
                + ", got '" + name + "'");
    }

    /** Its name in manifests. */
    public String manifestName() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** Refuses thresholds of another number, or outside what the rule's scores can reach. */
    public static void checkThresholds(ExitPolicy policy, double[] thresholds, int exits) throws BundleException {
        if (thresholds.length != exits - 1) {
            throw new BundleException("thresholds: expected " + (exits - 1) + ", one for each exit but the last, got "
                    + thresholds.length);
        }
        for (double threshold : thresholds) {
            if (!(threshold >= policy.closed && threshold <= policy.open)) {
                throw new BundleException("thresholds: expected " + policy.closed + " (nothing leaves) to " + policy.open
                        + " (everything leaves), got " + threshold);
            }
        }
    }

    /**
     * What the rule says at the last of the exits that were reached.
     *
     * @param logits those of the exits reached so far, in order, at least one; ones that are not finite throw, for any
     *     class could be read from them
     */
    public Verdict judge(float[][] logits) throws BundleException {
        double[][] own = new double[logits.length][];
        for (int exit = 0; exit < logits.length; exit++) {
            own[exit] = logSoftmax(finite(logits[exit]));
        }
        double[] last = own[own.length - 1];
        switch (this) {
            case ENTROPY:
                return new Verdict(last, entropy(last));
            case MAX_PROBABILITY:
                return new Verdict(last, 1 - Math.exp(last[argmax(last)]));
            case MARGIN:
                return new Verdict(last, 1 - margin(last));
            case PATIENCE:
                return new Verdict(last, -runLength(own));
            case RUNNING_AVERAGE:
                return averaged(own, false);
            default:
                return averaged(own, true);
        }
    }

    private static Verdict averaged(double[][] own, boolean weighted) {
        double[] sum = new double[own[0].length];
        double weights = 0;
        for (int exit = 0; exit < own.length; exit++) {
            double weight = weighted ? exit + 1 : 1;
            weights += weight;
            for (int label = 0; label < sum.length; label++) {
                sum[label] += weight * own[exit][label];
            }
        }
        for (int label = 0; label < sum.length; label++) {
            sum[label] /= weights;
        }
        double[] mean = logSoftmax(sum);
        return new Verdict(mean, entropy(mean));
    }

    /** Entropy in nats with the authors' 1e-5 inside the logarithm. */
    private static double entropy(double[] logProbabilities) {
        double entropy = 0;
        for (double logarithm : logProbabilities) {
            double probability = Math.exp(logarithm);
            entropy -= probability * Math.log(probability + 1e-5);
        }
        return entropy;
    }

    private static double margin(double[] logProbabilities) {
        double[] sorted = logProbabilities.clone();
        Arrays.sort(sorted);
        return Math.exp(sorted[sorted.length - 1]) - Math.exp(sorted[sorted.length - 2]);
    }

    private static int runLength(double[][] own) {
        int length = 1;
        for (int exit = own.length - 1; exit > 0 && argmax(own[exit]) == argmax(own[exit - 1]); exit--) {
            length++;
        }
        return length;
    }

    private static double[] logSoftmax(double[] logits) {
        double largest = logits[argmax(logits)];
        double sum = 0;
        for (double logit : logits) {
            sum += Math.exp(logit - largest);
        }
        double[] result = new double[logits.length];
        for (int label = 0; label < logits.length; label++) {
            result[label] = logits[label] - largest - Math.log(sum);
        }
        return result;
    }

    private static double[] exponentials(double[] logarithms) {
        double[] numbers = new double[logarithms.length];
        for (int index = 0; index < numbers.length; index++) {
            numbers[index] = Math.exp(logarithms[index]);
        }
        return numbers;
    }

    /** The first of the largest. */
    static int argmax(double[] numbers) {
        int best = 0;
        for (int index = 1; index < numbers.length; index++) {
            if (numbers[index] > numbers[best]) {
                best = index;
            }
        }
        return best;
    }

    /** Logits of one exit as doubles; ones that are not finite throw. */
    static double[] finite(float[] logits) throws BundleException {
        double[] doubles = new double[logits.length];
        for (int label = 0; label < logits.length; label++) {
            doubles[label] = logits[label];
            if (Double.isNaN(doubles[label]) || Double.isInfinite(doubles[label])) {
                throw new BundleException("logits: expected finite numbers, got " + logits[label]);
            }
        }
        return doubles;
    }
}
