package org.rditf.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** An input or output of a model file. Files are run with one image at a time: a free batch axis counts as 1. */
public final class TensorSpec {
    /** Its name in the signature. */
    public final String name;
    /** Its place among the file's inputs or outputs, from 0. */
    public final int position;
    /** With the batch axis; -1 there where the batch size is free. */
    public final int[] shape;
    /** How its int8 values stand for numbers; null for float32. */
    public final Quantisation quantisation;

    public TensorSpec(String name, int position, int[] shape, Quantisation quantisation) {
        this.name = name;
        this.position = position;
        this.shape = shape.clone();
        this.quantisation = quantisation;
    }

    public boolean isInt8() {
        return quantisation != null;
    }

    /** Number of values of one image. */
    public int elements() {
        int elements = 1;
        for (int axis = 1; axis < shape.length; axis++) {
            elements *= shape[axis];
        }
        return elements;
    }

    /** A buffer for one image, as the runtime wants it: direct, in the machine's byte order. */
    public ByteBuffer newBuffer() {
        return ByteBuffer.allocateDirect(elements() * (isInt8() ? 1 : 4)).order(ByteOrder.nativeOrder());
    }

    /** Writes numbers into a buffer of this tensor. */
    public void write(float[] numbers, ByteBuffer buffer) {
        buffer.clear();
        if (isInt8()) {
            for (float number : numbers) {
                buffer.put(quantisation.quantise(number));
            }
        } else {
            buffer.asFloatBuffer().put(numbers);
        }
        buffer.clear();
    }

    /** Reads the numbers in a buffer of this tensor. */
    public float[] read(ByteBuffer buffer) {
        float[] numbers = new float[elements()];
        buffer.clear();
        if (isInt8()) {
            for (int index = 0; index < numbers.length; index++) {
                numbers[index] = quantisation.dequantise(buffer.get(index));
            }
        } else {
            buffer.asFloatBuffer().get(numbers);
        }
        return numbers;
    }
}
