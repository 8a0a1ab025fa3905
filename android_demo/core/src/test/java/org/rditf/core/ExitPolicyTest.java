package org.rditf.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import java.util.Arrays;
import org.junit.Test;
import org.junit.function.ThrowingRunnable;

/** Every exit rule that a manifest can name. */
public class ExitPolicyTest {
    /** Probabilities 0.7, 0.2, 0.1. */
    private static final float[] LOGITS = {(float) Math.log(7), (float) Math.log(2), 0};

    private static double score(ExitPolicy policy, float[]... logits) throws BundleException {
        return policy.judge(logits).score;
    }

    @Test
    public void scoresByHand() throws Exception {
        double entropy = -(0.7 * Math.log(0.70001) + 0.2 * Math.log(0.20001) + 0.1 * Math.log(0.10001));
        assertEquals(entropy, score(ExitPolicy.ENTROPY, LOGITS), 1e-7);
        assertEquals(0.3, score(ExitPolicy.MAX_PROBABILITY, LOGITS), 1e-7);
        assertEquals(0.5, score(ExitPolicy.MARGIN, LOGITS), 1e-7);
        float[] other = {0, 1, 0};
        assertEquals(-1, score(ExitPolicy.PATIENCE, LOGITS), 0);
        assertEquals(-2, score(ExitPolicy.PATIENCE, other, LOGITS, LOGITS), 0);
        assertEquals(-1, score(ExitPolicy.PATIENCE, LOGITS, other), 0);
        assertEquals(entropy, score(ExitPolicy.RUNNING_AVERAGE, LOGITS, LOGITS), 1e-7);
    }

    @Test
    public void averagesCallTheClassFromAllExitsSoFar() throws Exception {
        float[] strong = {6, 0, 0};
        float[] weak = {0, 2, 0};
        assertEquals(0, ExitPolicy.RUNNING_AVERAGE.judge(new float[][] {strong, weak}).prediction);
        assertEquals(1, ExitPolicy.ENTROPY.judge(new float[][] {strong, weak}).prediction);
        float[] middling = {0, 4, 0};
        assertEquals(1, ExitPolicy.WEIGHTED_RUNNING_AVERAGE.judge(new float[][] {strong, middling}).prediction);
    }

    @Test
    public void everyRuleDecidesAsPython() throws Exception {
        Npz python = TestFiles.reference("policies");
        int[] shape = python.get("exit_logits").shape();
        float[] logits = python.get("exit_logits").floats();
        for (ExitPolicy policy : ExitPolicy.values()) {
            String name = policy.manifestName();
            double[] thresholds = python.get(name + "_thresholds").doubles();
            double[] scores = python.get(name + "_scores").doubles();
            int[] exits = python.get(name + "_exits").ints();
            int[] predictions = python.get(name + "_predictions").ints();
            for (int row = 0; row < shape[0]; row++) {
                float[][] reached = new float[0][];
                for (int exit = 0; exit < shape[1]; exit++) {
                    int start = (row * shape[1] + exit) * shape[2];
                    reached = Arrays.copyOf(reached, exit + 1);
                    reached[exit] = Arrays.copyOfRange(logits, start, start + shape[2]);
                    ExitPolicy.Verdict verdict = policy.judge(reached);
                    assertEquals(name, scores[row * shape[1] + exit], verdict.score, 1e-12);
                    boolean leaves = exit == shape[1] - 1 || verdict.score < thresholds[exit];
                    if (exit <= exits[row]) {
                        assertEquals(name + ", image " + row, exit == exits[row], leaves);
                    }
                    if (exit == exits[row]) {
                        assertEquals(name + ", image " + row, predictions[row], verdict.prediction);
                    }
                }
            }
        }
    }

    @Test
    public void logitsThatAreNotFiniteAreRefused() {
        for (final float unfit : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
            for (final ExitPolicy policy : ExitPolicy.values()) {
                BundleException error = assertThrows(BundleException.class, new ThrowingRunnable() {
                    @Override
                    public void run() throws BundleException {
                        policy.judge(new float[][] {{0, unfit, 1}, LOGITS});
                    }
                });
                assertEquals("logits: expected finite numbers, got " + unfit, error.getMessage());
            }
        }
    }

    @Test
    public void namesAreThoseOfManifests() throws Exception {
        assertEquals(ExitPolicy.MAX_PROBABILITY, ExitPolicy.named("max_probability"));
        BundleException error = assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws BundleException {
                ExitPolicy.named("Entropy");
            }
        });
        assertEquals("policy: expected one of [entropy, max_probability, margin, patience, running_average, "
                + "weighted_running_average], got 'Entropy'", error.getMessage());
    }
}
