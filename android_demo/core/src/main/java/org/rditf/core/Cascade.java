package org.rditf.core;

import java.io.Closeable;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Runs a bundle: stages one after another until the exit rule lets the image go. Later stages are not run for it.
 *
 * <p>For one thread at a time.
 */
public final class Cascade implements Closeable {
    /** Runs of a stage from which its next duration is foretold. */
    private static final int REMEMBERED_RUNS = 32;
    /** Of a stage in a row; trying a slow stage again after each would break every second deadline. */
    static final int SKIPS_UNTIL_RETRY = 32;

    /** Tells the time; tests have one that they move. */
    interface Clock {
        long nanos();
    }

    static final Clock SYSTEM = new Clock() {
        @Override
        public long nanos() {
            return System.nanoTime();
        }
    };

    public final Bundle bundle;
    private final Manifest manifest;
    private final Clock clock;
    private final List<LoadedPiece> stages = new ArrayList<>();
    private final List<RecentTimes> durations = new ArrayList<>();
    /** Of each stage, in a row, for what the durations foretold. */
    private final int[] skips;
    private double[] thresholds;

    /** Loads every stage of a bundle. */
    public Cascade(Bundle bundle, StageLoader loader) throws BundleException {
        this(bundle, loader, SYSTEM);
    }

    Cascade(Bundle bundle, StageLoader loader, Clock clock) throws BundleException {
        this.bundle = bundle;
        this.clock = clock;
        manifest = bundle.manifest;
        thresholds = manifest.thresholds();
        skips = new int[manifest.stages.size()];
        try {
            for (Piece stage : manifest.stages) {
                stages.add(new LoadedPiece(bundle, stage, loader, clock));
                durations.add(new RecentTimes(REMEMBERED_RUNS));
            }
        } catch (BundleException | RuntimeException error) {
            close();
            throw error;
        }
    }

    /** One for each exit but the last. */
    public double[] thresholds() {
        return thresholds.clone();
    }

    /** Sets one threshold for each exit but the last; unfit ones throw and change nothing. */
    public void setThresholds(double... values) throws BundleException {
        ExitPolicy.checkThresholds(manifest.policy, values, manifest.exits());
        thresholds = values.clone();
    }

    /** Classifies an image without a deadline. */
    public Prediction predict(float[] image) throws BundleException {
        return predict(image, Double.POSITIVE_INFINITY);
    }

    /**
     * Classifies an image.
     *
     * @param image height x width x channels numbers in [0, 1]
     * @param deadlineMs milliseconds within which to answer. No stage is started after it, nor one that is likely to
     *     end after it (the median of its latest runs tells); the answer is then that of the last exit reached. A stage
     *     that was skipped some dozens of times in a row as too slow is tried once more, since only a run can show that
     *     it has become faster: that answer may come after the deadline. The first stage always runs, and a stage is
     *     never broken off
     * @return the answer; logits that are not finite throw
     */
    public Prediction predict(float[] image, double deadlineMs) throws BundleException {
        final long started = clock.nanos();
        checkImage(image, manifest);
        if (!(deadlineMs > 0)) {
            throw new BundleException("deadline: expected more than 0 milliseconds, got " + deadlineMs);
        }
        int exits = stages.size();
        float[][] logits = new float[exits][];
        double[] scores = new double[exits];
        long[] nanos = new long[exits];
        for (int exit = 0; ; exit++) {
            nanos[exit] = timedRun(exit, image);
            logits[exit] = stages.get(exit).numbers("logits");
            ExitPolicy.Verdict verdict = manifest.policy.judge(Arrays.copyOf(logits, exit + 1));
            scores[exit] = verdict.score;
            boolean leaves = exit == exits - 1 || verdict.score < thresholds[exit];
            boolean late = !leaves && !endsInTime(exit + 1, started, deadlineMs);
            if (leaves || late) {
                int reached = exit + 1;
                return new Prediction(manifest.labels.get(verdict.prediction), verdict, Arrays.copyOf(scores, reached),
                        Arrays.copyOf(logits, reached), Arrays.copyOf(nanos, reached), clock.nanos() - started,
                        late);
            }
        }
    }

    /** Logits of every exit, whether it would be reached or not. */
    public float[][] exitLogits(float[] image) throws BundleException {
        checkImage(image, manifest);
        float[][] logits = new float[stages.size()][];
        for (int exit = 0; exit < logits.length; exit++) {
            timedRun(exit, image);
            logits[exit] = stages.get(exit).numbers("logits");
        }
        return logits;
    }

    private long timedRun(int index, float[] image) throws BundleException {
        long begun = clock.nanos();
        run(index, image);
        long nanos = clock.nanos() - begun;
        durations.get(index).add(nanos);
        skips[index] = 0;
        return nanos;
    }

    /** Runs stage {@code index} on the image, or on what the stage before it gave. */
    Steps run(int index, float[] image) throws BundleException {
        LoadedPiece stage = stages.get(index);
        return index == 0 ? stage.runOnImage(image) : stage.runAfter(stages.get(index - 1));
    }

    /** Median nanoseconds of a stage's latest runs; 0 if it has not run yet. */
    public long typicalNanos(int index) {
        return (long) durations.get(index).median();
    }

    /** Nanoseconds that loading a stage took. */
    public long loadNanos(int index) {
        return stages.get(index).loadNanos;
    }

    @Override
    public void close() {
        for (LoadedPiece stage : stages) {
            stage.close();
        }
        stages.clear();
    }

    static void checkImage(float[] image, Manifest manifest) throws BundleException {
        int elements = manifest.preprocessing.elements();
        if (image.length != elements) {
            throw new BundleException("image: expected " + elements + " numbers, got " + image.length);
        }
        for (float number : image) {
            if (!(number >= 0 && number <= 1)) {
                throw new BundleException("image: expected numbers from 0 to 1, got " + number);
            }
        }
    }

    /**
     * Whether a stage can begin before the deadline and, by what is known of it, end before it.
     *
     * <p>What is known of a stage that is not run would never change: after enough skips it is forgotten.
     */
    private boolean endsInTime(int stage, long started, double deadlineMs) {
        if (isPast(started, deadlineMs, 0)) {
            return false;
        }
        RecentTimes known = durations.get(stage);
        if (!isPast(started, deadlineMs, known.median())) {
            return true;
        }
        if (skips[stage] < SKIPS_UNTIL_RETRY) {
            skips[stage]++;
            return false;
        }
        known.clear();
        return true;
    }

    /** Whether the deadline has passed, or will have in so many nanoseconds. */
    private boolean isPast(long started, double deadlineMs, double expected) {
        return (clock.nanos() - started + expected) / 1e6 >= deadlineMs;
    }
}
