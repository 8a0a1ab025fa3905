package org.rditf.core;

import static org.junit.Assert.assertEquals;

import org.junit.Test;

/** How integers stand for numbers. */
public class QuantisationTest {
    /** As tests/test_cascade.py: scale 0.5, zero point -2; 1.2 is 2.4 steps up, and what is too large is saturated. */
    @Test
    public void byHand() throws Exception {
        Quantisation quantisation = new Quantisation(0.5, -2);
        float[] numbers = {-99, 0, 0.5f, 1.2f, 99};
        int[] integers = {-128, -2, -1, 0, 127};
        float[] again = {-63, 0, 0.5f, 1, 64.5f};
        for (int index = 0; index < numbers.length; index++) {
            assertEquals(integers[index], quantisation.quantise(numbers[index]));
            assertEquals(again[index], quantisation.dequantise((byte) integers[index]), 0);
        }
    }

    @Test
    public void halvesGoToTheEvenInteger() throws Exception {
        Quantisation quantisation = new Quantisation(1, 0);
        float[] numbers = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f};
        int[] integers = {0, 2, 2, 0, -2};
        for (int index = 0; index < numbers.length; index++) {
            assertEquals(integers[index], quantisation.quantise(numbers[index]));
        }
    }
}
