package org.rditf.core;

/**
 * Pictures as a bundle's network takes them: grey or RGB, resized bilinearly (antialiased when shrinking), divided.
 *
 * <p>Fixed-point arithmetic with 22 bits, columns before rows and 8 bits in between: the same numbers as Python's,
 * whose resizing is Pillow's.
 */
public final class Preprocessor {
    private static final int PRECISION = 22;

    private final Preprocessing wanted;

    public Preprocessor(Preprocessing wanted) {
        this.wanted = wanted;
    }

    /**
     * An image of a picture.
     *
     * @param argb its pixels, row by row, as Android's Bitmap.getPixels gives them; transparency is dropped
     * @param invert whether to turn light into dark first, for dark ink on light paper
     * @return height x width x channels numbers in [0, 1]
     */
    public float[] image(int[] argb, int width, int height, boolean invert) {
        if (width < 1 || height < 1 || argb.length != width * height) {
            throw new IllegalArgumentException("picture: expected width x height pixels, got " + argb.length);
        }
        float[] image = new float[wanted.elements()];
        for (int channel = 0; channel < wanted.channels; channel++) {
            int[] plane = resized(plane(argb, channel, invert), width, height);
            for (int pixel = 0; pixel < plane.length; pixel++) {
                image[pixel * wanted.channels + channel] = Math.min(1f, plane[pixel] / wanted.divideBy);
            }
        }
        return image;
    }

    private int[] plane(int[] argb, int channel, boolean invert) {
        int[] plane = new int[argb.length];
        for (int pixel = 0; pixel < argb.length; pixel++) {
            int red = (argb[pixel] >> 16) & 255;
            int green = (argb[pixel] >> 8) & 255;
            int blue = argb[pixel] & 255;
            int value;
            if (wanted.channels == 1) {
                value = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
            } else {
                value = channel == 0 ? red : channel == 1 ? green : blue;
            }
            plane[pixel] = invert ? 255 - value : value;
        }
        return plane;
    }

    private int[] resized(int[] plane, int width, int height) {
        int[] narrow = width == wanted.width ? plane : resizedLines(plane, width, height, wanted.width, false);
        return height == wanted.height ? narrow : resizedLines(narrow, height, wanted.width, wanted.height, true);
    }

    /** Resizes lines of {@code from} pixels to {@code to}; the lines are columns or rows of the plane. */
    private static int[] resizedLines(int[] plane, int from, int lines, int to, boolean columns) {
        int[] result = new int[lines * to];
        double scale = (double) from / to;
        double support = Math.max(scale, 1.0);
        for (int place = 0; place < to; place++) {
            double centre = (place + 0.5) * scale;
            int first = Math.max(0, (int) (centre - support + 0.5));
            int end = Math.min(from, (int) (centre + support + 0.5));
            int[] weights = weights(first, end, centre, support);
            for (int line = 0; line < lines; line++) {
                long sum = 1L << (PRECISION - 1);
                for (int index = first; index < end; index++) {
                    int at = columns ? index * lines + line : line * from + index;
                    sum += (long) plane[at] * weights[index - first];
                }
                int value = (int) Math.max(0, Math.min(255, sum >> PRECISION));
                result[columns ? place * lines + line : line * to + place] = value;
            }
        }
        return result;
    }

    /** A triangle around the centre, its sum 1, in fixed point. */
    private static int[] weights(int first, int end, double centre, double support) {
        double[] triangle = new double[end - first];
        double sum = 0;
        for (int index = 0; index < triangle.length; index++) {
            double distance = Math.abs((index + first - centre + 0.5) / support);
            triangle[index] = distance < 1 ? 1 - distance : 0;
            sum += triangle[index];
        }
        int[] weights = new int[triangle.length];
        for (int index = 0; index < weights.length; index++) {
            weights[index] = (int) (0.5 + triangle[index] / sum * (1 << PRECISION));
        }
        return weights;
    }
}
