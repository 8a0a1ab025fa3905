package org.rditf.core;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** One array in NumPy's NPY format: C order, little endian, numbers of 1, 4 or 8 bytes. */
public final class NpyArray {
    private static final Pattern DTYPE = Pattern.compile("'descr':\\s*'([<|])([a-z]\\d)'");
    private static final Pattern ORDER = Pattern.compile("'fortran_order':\\s*False");
    private static final Pattern SHAPE = Pattern.compile("'shape':\\s*\\(([0-9, ]*)\\)");

    /** As NumPy calls it without byte order: "f4", "f8", "i4", "u1". */
    public final String dtype;
    private final int[] shape;
    private final ByteBuffer data;

    private NpyArray(String dtype, int[] shape, ByteBuffer data) {
        this.dtype = dtype;
        this.shape = shape;
        this.data = data;
    }

    /** Reads the bytes of an .npy file. */
    static NpyArray parse(byte[] bytes) throws IOException {
        if (bytes.length < 12 || (bytes[0] & 0xff) != 0x93 || !ascii(bytes, 1, 5).equals("NUMPY")) {
            throw new IOException("not an array of NumPy");
        }
        ByteBuffer all = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        int start = bytes[6] == 1 ? 10 : 12;
        int length = bytes[6] == 1 ? all.getShort(8) & 0xffff : all.getInt(8);
        if (length < 0 || length > bytes.length - start) {
            throw new IOException("an array that is cut off");
        }
        String header = ascii(bytes, start, length);
        Matcher dtype = DTYPE.matcher(header);
        Matcher shape = SHAPE.matcher(header);
        if (!dtype.find() || !shape.find() || !ORDER.matcher(header).find()) {
            throw new IOException("expected a plain array in C order, got " + header.trim());
        }
        all.position(start + length);
        ByteBuffer data = all.slice().order(ByteOrder.LITTLE_ENDIAN);
        try {
            NpyArray array = new NpyArray(dtype.group(2), lengths(shape.group(1)), data);
            long wanted = (long) array.size() * (array.dtype.charAt(1) - '0');
            if (data.remaining() != wanted) {
                throw new IOException("an array of " + data.remaining() + " bytes in place of " + wanted);
            }
            return array;
        } catch (ArithmeticException | NumberFormatException error) {
            throw new IOException("an array of impossible shape (" + shape.group(1) + ")", error);
        }
    }

    public int[] shape() {
        return shape.clone();
    }

    /** Number of values. */
    public int size() {
        int size = 1;
        for (int length : shape) {
            size = Math.multiplyExact(size, length);
        }
        return size;
    }

    /** Refuses an array of another dtype or shape. */
    NpyArray expect(String wantedDtype, int... wantedShape) throws IOException {
        if (!dtype.equals(wantedDtype) || !Arrays.equals(shape, wantedShape)) {
            throw new IOException("expected " + wantedDtype + " " + Arrays.toString(wantedShape) + ", got " + dtype
                    + " " + Arrays.toString(shape));
        }
        return this;
    }

    /** All values; bytes (u1) as 0 to 255. */
    public float[] floats() {
        return floats(0, size());
    }

    /** Some values. */
    public float[] floats(int start, int count) {
        float[] values = new float[count];
        for (int index = 0; index < count; index++) {
            values[index] = (float) number(start + index);
        }
        return values;
    }

    /** All values. */
    public double[] doubles() {
        double[] values = new double[size()];
        for (int index = 0; index < values.length; index++) {
            values[index] = number(index);
        }
        return values;
    }

    /** All values of an array of integers. */
    public int[] ints() {
        int[] values = new int[size()];
        for (int index = 0; index < values.length; index++) {
            values[index] = (int) number(index);
        }
        return values;
    }

    private double number(int index) {
        switch (dtype) {
            case "f4":
                return data.getFloat(4 * index);
            case "f8":
                return data.getDouble(8 * index);
            case "i4":
                return data.getInt(4 * index);
            case "u1":
                return data.get(index) & 0xff;
            default:
                throw new IllegalStateException("an array of " + dtype);
        }
    }

    private static int[] lengths(String text) {
        String[] parts = text.replace(" ", "").split(",");
        int[] lengths = new int[text.trim().isEmpty() ? 0 : parts.length];
        for (int axis = 0; axis < lengths.length; axis++) {
            lengths[axis] = Integer.parseInt(parts[axis]);
        }
        return lengths;
    }

    private static String ascii(byte[] bytes, int start, int length) {
        return new String(bytes, start, length, StandardCharsets.US_ASCII);
    }
}
