package org.rditf.core;

import java.io.IOException;
import java.util.Arrays;

/** Inputs and the answers that every runtime must give. */
public final class GoldenVectors {
    public final int count;
    /** True class of each. */
    public final int[] labels;
    /** Exit that each takes, from 0. */
    public final int[] exits;
    /** Class that each is called there. */
    public final int[] predictions;
    private final float[] images;
    private final float[] exitLogits;
    private final double[] scores;

    GoldenVectors(Npz npz, Manifest manifest) throws IOException {
        Preprocessing image = manifest.preprocessing;
        int classes = manifest.labels.size();
        count = manifest.goldenImages;
        images = npz.get("images").expect("f4", count, image.height, image.width, image.channels).floats();
        labels = npz.get("labels").expect("i4", count).ints();
        exits = npz.get("exits").expect("i4", count).ints();
        predictions = npz.get("predictions").expect("i4", count).ints();
        exitLogits = npz.get("exit_logits").expect("f4", count, manifest.exits(), classes).floats();
        scores = npz.get("scores").expect("f8", count, manifest.exits()).doubles();
    }

    /** Image number {@code index}: height x width x channels numbers in [0, 1]. */
    public float[] image(int index) {
        int length = images.length / count;
        return Arrays.copyOfRange(images, index * length, (index + 1) * length);
    }

    /** Logits of an image at an exit. */
    public float[] logits(int index, int exit) {
        int exits = scores.length / count;
        int classes = exitLogits.length / scores.length;
        int start = (index * exits + exit) * classes;
        return Arrays.copyOfRange(exitLogits, start, start + classes);
    }

    /** The exit rule's score of an image at an exit. */
    public double score(int index, int exit) {
        return scores[index * (scores.length / count) + exit];
    }
}
