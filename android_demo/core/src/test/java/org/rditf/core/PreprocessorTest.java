package org.rditf.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import org.junit.Test;
import org.junit.function.ThrowingRunnable;

/** Pictures as Python brings them to a network. */
public class PreprocessorTest {
    private static Preprocessor preprocessor(int height, int width, int channels) throws BundleException {
        return new Preprocessor(new Preprocessing(height, width, channels, 255, "bilinear"));
    }

    @Test
    public void picturesComeOutAsPillowsToTheLastBit() throws Exception {
        Npz python = TestFiles.reference("pictures");
        for (String name : new String[] {"shrunk", "grown", "same", "wide"}) {
            int[] from = python.get(name).shape();
            int[] rgb = python.get(name).ints();
            int[] argb = new int[from[0] * from[1]];
            for (int pixel = 0; pixel < argb.length; pixel++) {
                // Transparency is dropped, whatever it is.
                argb[pixel] = pixel << 24 | rgb[3 * pixel] << 16 | rgb[3 * pixel + 1] << 8 | rgb[3 * pixel + 2];
            }
            for (int channels : new int[] {1, 3}) {
                NpyArray wanted = python.get(name + "_" + channels);
                int[] to = wanted.shape();
                float[] found = preprocessor(to[0], to[1], channels).image(argb, from[1], from[0], false);
                int[] pixels = new int[found.length];
                for (int index = 0; index < found.length; index++) {
                    pixels[index] = Math.round(found[index] * 255);
                    assertEquals(pixels[index] / 255f, found[index], 0);
                }
                assertArrayEquals(name + ", " + channels + " channels", wanted.ints(), pixels);
            }
        }
    }

    @Test
    public void invertingTurnsLightIntoDark() throws Exception {
        int[] white = {0xffffffff, 0xff000000};
        assertArrayEquals(new float[] {1, 0}, preprocessor(1, 2, 1).image(white, 2, 1, false), 0);
        assertArrayEquals(new float[] {0, 1}, preprocessor(1, 2, 1).image(white, 2, 1, true), 0);
    }

    @Test
    public void greyIsWeighted() throws Exception {
        int[] colours = {0xffff0000, 0xff00ff00, 0xff0000ff};
        float[] found = preprocessor(1, 3, 1).image(colours, 3, 1, false);
        assertArrayEquals(new float[] {76 / 255f, 150 / 255f, 29 / 255f}, found, 0);
    }

    @Test
    public void pixelsThatDoNotMakeAPictureAreRefused() throws Exception {
        final Preprocessor preprocessor = preprocessor(2, 2, 1);
        assertThrows(IllegalArgumentException.class, new ThrowingRunnable() {
            @Override
            public void run() {
                preprocessor.image(new int[5], 2, 2, false);
            }
        });
    }
}
