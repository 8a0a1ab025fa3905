package org.rditf.core;

import java.util.Arrays;
import java.util.Comparator;

/** One image through the cascade and through the unsplit network, side by side. */
public final class Comparison {
    /** So that one interruption by the system does not show. */
    private static final int RUNS = 5;

    /** The run of median time. */
    public final Prediction cascade;
    /** Median time of the unsplit network, from the call to the answer. */
    public final long unsplitNanos;
    /** Class that the unsplit network's last exit calls. */
    public final int unsplitPrediction;

    private Comparison(Prediction cascade, long unsplitNanos, int unsplitPrediction) {
        this.cascade = cascade;
        this.unsplitNanos = unsplitNanos;
        this.unsplitPrediction = unsplitPrediction;
    }

    /** Runs both a few times in turn; arguments as for {@link Cascade#predict(float[], double)}. */
    public static Comparison run(Cascade cascade, Unsplit unsplit, float[] image, double deadlineMs)
            throws BundleException {
        Prediction[] found = new Prediction[RUNS];
        RecentTimes unsplitTimes = new RecentTimes(RUNS);
        int prediction = 0;
        for (int run = 0; run < RUNS; run++) {
            found[run] = cascade.predict(image, deadlineMs);
            long begun = System.nanoTime();
            prediction = unsplit.predict(image);
            unsplitTimes.add(System.nanoTime() - begun);
        }
        Arrays.sort(found, new Comparator<Prediction>() {
            @Override
            public int compare(Prediction one, Prediction other) {
                return Long.compare(one.nanos, other.nanos);
            }
        });
        return new Comparison(found[RUNS / 2], (long) unsplitTimes.median(), prediction);
    }
}
