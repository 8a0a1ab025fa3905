package org.rditf.core;

import java.util.Arrays;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * Times of many runs on the same images, in milliseconds.
 *
 * <p>{@code typical} is the mean over the images of each image's median over the rounds; unlike medians, typical times
 * add up, so that a mix of exits can be predicted from them. rdi_tf/run_times.py is the reference.
 */
public final class Statistics {
    public final int count;
    public final double mean;
    public final double std;
    public final double median;
    public final double p90;
    public final double p95;
    public final double typical;
    private final double[] sorted;

    /** Statistics of times in milliseconds, [rounds][images], at least one. */
    public Statistics(double[][] times) {
        int images = times[0].length;
        sorted = new double[times.length * images];
        double sum = 0;
        double medians = 0;
        for (int round = 0; round < times.length; round++) {
            System.arraycopy(times[round], 0, sorted, round * images, images);
        }
        for (int image = 0; image < images; image++) {
            double[] ofImage = new double[times.length];
            for (int round = 0; round < times.length; round++) {
                ofImage[round] = times[round][image];
                sum += ofImage[round];
            }
            Arrays.sort(ofImage);
            medians += percentile(ofImage, 50);
        }
        Arrays.sort(sorted);
        count = sorted.length;
        mean = sum / count;
        double squares = 0;
        for (double time : sorted) {
            squares += (time - mean) * (time - mean);
        }
        std = Math.sqrt(squares / count);
        median = percentile(sorted, 50);
        p90 = percentile(sorted, 90);
        p95 = percentile(sorted, 95);
        typical = medians / images;
    }

    JSONObject json() throws JSONException {
        JSONObject json = new JSONObject();
        json.put("count", count).put("mean", mean).put("std", std).put("min", sorted[0]);
        json.put("p5", percentile(sorted, 5)).put("median", median).put("p90", p90).put("p95", p95);
        return json.put("max", sorted[sorted.length - 1]).put("typical", typical);
    }

    /** Between the two nearest values, linearly, as NumPy's. */
    private static double percentile(double[] sorted, double percent) {
        double place = percent / 100 * (sorted.length - 1);
        int below = (int) place;
        int above = Math.min(below + 1, sorted.length - 1);
        return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
    }
}
