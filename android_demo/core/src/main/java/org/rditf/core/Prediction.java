package org.rditf.core;

/** What the cascade says of one image. */
public final class Prediction {
    /** The class, from 0. */
    public final int prediction;
    /** Its name. */
    public final String label;
    /** The exit taken, from 0. */
    public final int exit;
    /** Whether the deadline, not the exit rule, made it leave. */
    public final boolean byDeadline;
    /** From the call to the answer, exit rule included. */
    public final long nanos;
    private final double[] probabilities;
    private final double[] scores;
    private final float[][] exitLogits;
    private final long[] stageNanos;

    Prediction(String label, ExitPolicy.Verdict verdict, double[] scores, float[][] exitLogits, long[] stageNanos,
            long nanos, boolean byDeadline) {
        this.prediction = verdict.prediction;
        this.label = label;
        this.exit = stageNanos.length - 1;
        this.byDeadline = byDeadline;
        this.nanos = nanos;
        this.probabilities = verdict.probabilities;
        this.scores = scores;
        this.exitLogits = exitLogits;
        this.stageNanos = stageNanos;
    }

    /** Probability of each class at the exit taken, as the exit rule combines the exits. */
    public double[] probabilities() {
        return probabilities.clone();
    }

    /** Probability of the class called. */
    public double confidence() {
        return probabilities[prediction];
    }

    /** The exit rule's score (entropy in nats for the paper's rule) at an exit that was reached. */
    public double score(int exit) {
        return scores[exit];
    }

    /** Logits of an exit that was reached. */
    public float[] logits(int exit) {
        return exitLogits[exit].clone();
    }

    /** Time of each stage that ran, hand-over included. */
    public long[] stageNanos() {
        return stageNanos.clone();
    }
}
