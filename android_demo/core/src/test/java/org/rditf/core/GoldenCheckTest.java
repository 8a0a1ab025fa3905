package org.rditf.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import org.junit.Before;
import org.junit.Test;
import org.junit.function.ThrowingRunnable;

/** What the golden vectors find, with one thing altered at a time. */
public class GoldenCheckTest {
    private final FakeLoader loader = new FakeLoader();
    private Bundle bundle;
    private GoldenVectors golden;
    private float tolerance;

    @Before
    public void open() throws Exception {
        bundle = TestFiles.bundle("float32");
        golden = bundle.golden();
        loader.golden = bundle.golden();
        tolerance = (float) bundle.manifest.goldenTolerance;
    }

    private GoldenCheck check() throws BundleException {
        return GoldenCheck.run(new Cascade(bundle, loader), golden);
    }

    private static void assertFound(GoldenCheck check, boolean passed, int wrongExits, int wrongPredictions) {
        assertEquals(check.toString(), passed, check.passed());
        assertEquals(wrongExits, check.wrongExits);
        assertEquals(wrongPredictions, check.wrongPredictions);
    }

    @Test
    public void nothingAltered() throws Exception {
        assertFound(check(), true, 0, 0);
        assertEquals(0, check().largestDifference, 0);
        check().require();
    }

    @Test
    public void anExit() throws Exception {
        golden.exits[3] = (golden.exits[3] + 1) % 3;
        assertFound(check(), false, 1, 0);
        assertEquals(0, check().largestDifference, 0);
    }

    @Test
    public void aClass() throws Exception {
        golden.predictions[5] = (golden.predictions[5] + 1) % 10;
        assertFound(check(), false, 0, 1);
        assertEquals(0, check().largestDifference, 0);
    }

    @Test
    public void logitsWithinTheTolerance() throws Exception {
        loader.added.put("stage_3.tflite", 0.5f * tolerance);
        assertFound(check(), true, 0, 0);
        assertTrue(check().largestDifference > 0);
    }

    @Test
    public void logitsBeyondTheTolerance() throws Exception {
        loader.added.put("stage_3.tflite", 1.5f * tolerance);
        assertFound(check(), false, 0, 0);
        assertRefused("does not hold on this machine: 16 images: logits differ by at most ", new ThrowingRunnable() {
            @Override
            public void run() throws BundleException {
                check().require();
            }
        });
    }

    @Test
    public void logitsThatAreNotFiniteNeverPass() throws Exception {
        for (String stage : new String[] {"stage_1.tflite", "stage_3.tflite"}) {
            loader.added.clear();
            loader.added.put(stage, Float.NaN);
            assertFound(check(), false, 0, 0);
            assertEquals(Double.POSITIVE_INFINITY, check().largestDifference, 0);
        }
        loader.added.put("unsplit.tflite", Float.NaN);
        assertUnsplitRefused();
    }

    @Test
    public void theUnsplitNetworkMayRoundTwiceAsMuch() throws Exception {
        loader.added.put("unsplit.tflite", 1.5f * tolerance);
        GoldenCheck.requireUnsplit(new Unsplit(bundle, loader));
        loader.added.put("unsplit.tflite", 2.5f * tolerance);
        assertUnsplitRefused();
        assertFound(check(), true, 0, 0);
    }

    private void assertUnsplitRefused() {
        assertRefused("does not hold on this machine: unsplit network: 16 images: logits differ from the stages' by at "
                + "most ", new ThrowingRunnable() {
                    @Override
                    public void run() throws BundleException {
                        GoldenCheck.requireUnsplit(new Unsplit(bundle, loader));
                    }
                });
    }

    private static void assertRefused(String start, ThrowingRunnable what) {
        String message = assertThrows(BundleException.class, what).getMessage();
        assertTrue(message, message.startsWith(start));
    }
}
