package org.rditf.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.util.Arrays;
import java.util.Collection;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.junit.runners.Parameterized;

/** The app's bundles, run for real: the golden vectors, and what Python says of all sample images. */
@RunWith(Parameterized.class)
public class RealInferenceTest {
    @Parameterized.Parameters(name = "{0}")
    public static Collection<Object[]> bundles() {
        return Arrays.asList(new Object[][] {{"int8"}, {"float32"}});
    }

    private final String name;
    private Bundle bundle;
    private Cascade cascade;

    public RealInferenceTest(String name) {
        this.name = name;
    }

    @Before
    public void load() throws Exception {
        bundle = TestFiles.bundle(name);
        cascade = new Cascade(bundle, TestFiles.litert());
    }

    @After
    public void close() {
        if (cascade != null) {
            cascade.close();
        }
    }

    @Test
    public void goldenVectorsComeOut() throws Exception {
        GoldenCheck check = GoldenCheck.run(cascade);
        assertTrue(check.toString(), check.passed());
        assertEquals(bundle.manifest.goldenImages, check.images);
    }

    @Test
    public void logitsExitsAndClassesAreThoseOfPython() throws Exception {
        Npz python = TestFiles.reference(name);
        int[] shape = python.get("exit_logits").shape();
        float[] logits = python.get("exit_logits").floats();
        double[] scores = python.get("scores").doubles();
        int[] exits = python.get("exits").ints();
        int[] predictions = python.get("predictions").ints();
        Samples samples = TestFiles.samples(bundle);
        int row = 0;
        for (String version : Arrays.asList("clean", "adversarial", "slowdown")) {
            for (float[] image : samples.images(version).images) {
                Prediction found = cascade.predict(image);
                String place = version + ", image " + row;
                assertEquals(place, exits[row], found.exit);
                assertEquals(place, predictions[row], found.prediction);
                for (int exit = 0; exit <= found.exit; exit++) {
                    int start = (row * shape[1] + exit) * shape[2];
                    float[] wanted = Arrays.copyOfRange(logits, start, start + shape[2]);
                    assertClose(place, wanted, found.logits(exit));
                    assertEquals(place, scores[row * shape[1] + exit], found.score(exit), 1e-5);
                }
                row++;
            }
        }
        assertEquals(shape[0], row);
        assertTrue("at least 500 images, got " + row, row >= 500);
    }

    @Test
    public void unsplitNetworkSaysTheSame() throws Exception {
        float[] image = TestFiles.samples(bundle).images("clean").images[0];
        try (Unsplit unsplit = new Unsplit(bundle, TestFiles.litert())) {
            float[][] split = cascade.exitLogits(image);
            float[][] whole = unsplit.exitLogits(image);
            for (int exit = 0; exit < split.length; exit++) {
                for (int label = 0; label < split[exit].length; label++) {
                    assertEquals(split[exit][label], whole[exit][label], bundle.manifest.goldenTolerance);
                }
            }
            assertEquals(unsplit.predict(image), ExitPolicy.argmax(ExitPolicy.finite(whole[whole.length - 1])));
        }
    }

    @Test
    public void thresholdsDecide() throws Exception {
        float[] image = TestFiles.samples(bundle).images("clean").images[0];
        ExitPolicy policy = bundle.manifest.policy;
        cascade.setThresholds(policy.closed, policy.closed);
        assertEquals(2, cascade.predict(image).exit);
        cascade.setThresholds(policy.closed, policy.open);
        assertEquals(1, cascade.predict(image).exit);
        cascade.setThresholds(policy.open, policy.closed);
        Prediction first = cascade.predict(image);
        assertEquals(0, first.exit);
        assertEquals(1, first.stageNanos().length);
        assertTrue(first.nanos >= first.stageNanos()[0]);
    }

    private static void assertClose(String place, float[] wanted, float[] found) {
        assertEquals(wanted.length, found.length);
        for (int label = 0; label < wanted.length; label++) {
            assertEquals(place, wanted[label], found[label], 1e-5 * Math.max(1, Math.abs(wanted[label])));
        }
    }
}
