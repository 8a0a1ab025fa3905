package org.rditf.core;

/** Whether a bundle does here what it says: its golden vectors run through its cascade. */
public final class GoldenCheck {
    /** Times the tolerance for the unsplit network: in one file it rounds in other places. As rdi_tf.export.verify. */
    private static final double UNSPLIT = 2;

    /** Largest difference of a logit. */
    public final double largestDifference;
    public final int wrongExits;
    public final int wrongPredictions;
    public final int images;
    private final double tolerance;

    private GoldenCheck(int images, double tolerance, double largest, int wrongExits, int wrongPredictions) {
        this.images = images;
        this.tolerance = tolerance;
        largestDifference = largest;
        this.wrongExits = wrongExits;
        this.wrongPredictions = wrongPredictions;
    }

    /** Runs all golden vectors, under the manifest's thresholds whatever the cascade's are. */
    public static GoldenCheck run(Cascade cascade) throws BundleException {
        return run(cascade, cascade.bundle.golden());
    }

    static GoldenCheck run(Cascade cascade, GoldenVectors golden) throws BundleException {
        double[] thresholds = cascade.thresholds();
        cascade.setThresholds(cascade.bundle.manifest.thresholds());
        try {
            return runAll(cascade, golden);
        } finally {
            cascade.setThresholds(thresholds);
        }
    }

    /** Refuses a bundle whose unsplit network gives other logits than its stages: savings are reported against it. */
    public static void requireUnsplit(Unsplit unsplit) throws BundleException {
        GoldenVectors golden = unsplit.bundle.golden();
        double allowed = UNSPLIT * unsplit.bundle.manifest.goldenTolerance;
        double largest = 0;
        for (int index = 0; index < golden.count; index++) {
            largest = Math.max(largest, largestDifference(unsplit.exitLogits(golden.image(index)), golden, index));
        }
        if (!(largest <= allowed)) {
            throw new BundleException("does not hold on this machine: unsplit network: " + golden.count
                    + " images: logits differ from the stages' by at most " + (float) largest + " (" + (float) allowed
                    + " allowed)");
        }
    }

    /** Refuses a bundle that does not hold. */
    public void require() throws BundleException {
        if (!passed()) {
            throw new BundleException("does not hold on this machine: " + this);
        }
    }

    public boolean passed() {
        return largestDifference <= tolerance && wrongExits == 0 && wrongPredictions == 0;
    }

    @Override
    public String toString() {
        return images + " images: logits differ by at most " + (float) largestDifference + " (" + (float) tolerance
                + " allowed), " + wrongExits + " other exits, " + wrongPredictions + " other classes";
    }

    private static GoldenCheck runAll(Cascade cascade, GoldenVectors golden) throws BundleException {
        double largest = 0;
        int wrongExits = 0;
        int wrongPredictions = 0;
        for (int index = 0; index < golden.count; index++) {
            float[] image = golden.image(index);
            largest = Math.max(largest, largestDifference(cascade.exitLogits(image), golden, index));
            if (Double.isInfinite(largest)) {
                break; // no exit rule judges logits that are not finite
            }
            Prediction found = cascade.predict(image);
            wrongExits += found.exit == golden.exits[index] ? 0 : 1;
            wrongPredictions += found.prediction == golden.predictions[index] ? 0 : 1;
        }
        double tolerance = cascade.bundle.manifest.goldenTolerance;
        return new GoldenCheck(golden.count, tolerance, largest, wrongExits, wrongPredictions);
    }

    /** Of an image's logits, at any exit. */
    private static double largestDifference(float[][] found, GoldenVectors golden, int index) {
        double largest = 0;
        for (int exit = 0; exit < found.length; exit++) {
            largest = Math.max(largest, largestDifference(found[exit], golden.logits(index, exit)));
        }
        return largest;
    }

    private static double largestDifference(float[] found, float[] wanted) {
        double largest = 0;
        for (int label = 0; label < found.length; label++) {
            double difference = Math.abs((double) found[label] - wanted[label]);
            largest = Double.isNaN(difference) ? Double.POSITIVE_INFINITY : Math.max(largest, difference);
        }
        return largest;
    }
}
