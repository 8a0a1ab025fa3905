package org.rditf.core;

/** From a picture to an image: grey (one channel) or RGB (three), resized, pixels divided by {@code divideBy}. */
public final class Preprocessing {
    public final int height;
    public final int width;
    public final int channels;
    public final float divideBy;

    public Preprocessing(int height, int width, int channels, double divideBy, String resize) throws BundleException {
        if (height < 1 || width < 1 || (channels != 1 && channels != 3)) {
            throw new BundleException("preprocessing: expected a height, a width and 1 or 3 channels, got " + height
                    + ", " + width + ", " + channels);
        }
        if (!(divideBy > 0 && divideBy < Double.POSITIVE_INFINITY) || !resize.equals("bilinear")) {
            throw new BundleException("preprocessing: expected a divide_by above 0 and resize 'bilinear', got "
                    + divideBy + ", '" + resize + "'");
        }
        this.height = height;
        this.width = width;
        this.channels = channels;
        this.divideBy = (float) divideBy;
    }

    /** Number of values of an image. */
    public int elements() {
        return height * width * channels;
    }
}
