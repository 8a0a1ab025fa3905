package org.rditf.core;

import java.util.Arrays;

/** Images with their true classes. */
public final class LabelledImages {
    /** Where they come from, in words. */
    public final String source;
    public final float[][] images;
    public final int[] labels;

    public LabelledImages(String source, float[][] images, int[] labels) {
        if (images.length == 0 || images.length != labels.length) {
            throw new IllegalArgumentException("images: expected some, with a label for each");
        }
        this.source = source;
        this.images = images;
        this.labels = labels;
    }

    /** A bundle's golden inputs, at most so many. */
    public static LabelledImages golden(Bundle bundle, int limit) throws BundleException {
        GoldenVectors golden = bundle.golden();
        float[][] images = new float[golden.count][];
        for (int index = 0; index < golden.count; index++) {
            images[index] = golden.image(index);
        }
        return new LabelledImages("the bundle's golden inputs: validation images, equally many from each exit as far as "
                + "there are", images, golden.labels).first(limit);
    }

    /** At most so many of them. */
    public LabelledImages first(int limit) {
        int kept = Math.min(limit, images.length);
        return new LabelledImages(source, Arrays.copyOf(images, kept), Arrays.copyOf(labels, kept));
    }
}
