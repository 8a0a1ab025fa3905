package org.rditf.core;

/** How int8 values stand for numbers: number = scale * (integer - zeroPoint). Arithmetic is float32, as Python's. */
public final class Quantisation {
    public final float scale;
    public final int zeroPoint;

    public Quantisation(double scale, int zeroPoint) throws BundleException {
        if (!(scale > 0 && scale < Double.POSITIVE_INFINITY) || zeroPoint < Byte.MIN_VALUE || zeroPoint > Byte.MAX_VALUE) {
            throw new BundleException("quantisation: expected a scale > 0 and an int8 zero point, got " + scale + ", "
                    + zeroPoint);
        }
        this.scale = (float) scale;
        this.zeroPoint = zeroPoint;
    }

    /** The integer that stands for a number: rounded half to even, saturated. */
    public byte quantise(float number) {
        double integer = Math.rint(number / scale) + zeroPoint;
        return (byte) Math.max(Byte.MIN_VALUE, Math.min(Byte.MAX_VALUE, integer));
    }

    /** The number that an integer stands for. */
    public float dequantise(byte integer) {
        return (integer - (float) zeroPoint) * scale;
    }
}
