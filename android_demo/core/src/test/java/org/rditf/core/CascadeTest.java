package org.rditf.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import org.junit.Before;
import org.junit.Test;
import org.junit.function.ThrowingRunnable;

/** The cascade's own logic, with stages that say what they are told to. */
public class CascadeTest {
    private static final float[] SURE_OF_3 = {0, 0, 0, 20, 0, 0, 0, 0, 0, 0};
    private static final float[] SURE_OF_7 = {0, 0, 0, 0, 0, 0, 0, 20, 0, 0};
    private static final float[] UNSURE = new float[10];

    private final FakeLoader loader = new FakeLoader();
    private final float[] image = new float[28 * 28];
    private Bundle bundle;

    @Before
    public void open() throws Exception {
        bundle = TestFiles.bundle("float32");
    }

    private Cascade cascade(float[]... logits) throws BundleException {
        for (int stage = 0; stage < logits.length; stage++) {
            loader.logits.put("stage_" + (stage + 1) + ".tflite", logits[stage]);
        }
        return new Cascade(bundle, loader, loader);
    }

    @Test
    public void laterStagesAreNotRunForAnImageThatHasLeft() throws Exception {
        Prediction found = cascade(UNSURE, SURE_OF_3, SURE_OF_7).predict(image);
        assertEquals(1, found.exit);
        assertEquals("3", found.label);
        assertEquals(Math.log(10), found.score(0), 1e-3);
        assertEquals(0, found.score(1), 1e-3);
        assertTrue(found.confidence() > 0.999);
        assertFalse(found.byDeadline);
        assertEquals(null, loader.runs.get("stage_3.tflite"));
    }

    @Test
    public void lastExitTakesWhatIsLeft() throws Exception {
        Prediction found = cascade(UNSURE, UNSURE, UNSURE).predict(image);
        assertEquals(2, found.exit);
        assertEquals(0, found.prediction);
        assertArrayEquals(UNSURE, found.logits(2), 0);
    }

    @Test
    public void noStageIsStartedThatWouldEndAfterTheDeadline() throws Exception {
        Cascade cascade = cascade(UNSURE, UNSURE, SURE_OF_7);
        loader.nanos.put("stage_3.tflite", 50_000_000L);
        assertEquals(2, cascade.predict(image, 1000).exit);
        Prediction found = cascade.predict(image, 40);
        assertEquals(1, found.exit);
        assertTrue(found.byDeadline);
        assertEquals(1, (int) loader.runs.get("stage_3.tflite"));
        assertEquals(2, cascade.predict(image, 51).exit);
    }

    @Test
    public void stageThatWasSlowIsTriedAgain() throws Exception {
        Cascade cascade = cascade(UNSURE, UNSURE, SURE_OF_7);
        loader.nanos.put("stage_3.tflite", 400_000_000L);
        for (int run = 0; run < 40; run++) {
            cascade.predict(image);
        }
        loader.nanos.put("stage_3.tflite", 40_000_000L);
        for (int answer = 0; answer < Cascade.SKIPS_UNTIL_RETRY + 5; answer++) {
            Prediction found = cascade.predict(image, 50);
            assertEquals(answer < Cascade.SKIPS_UNTIL_RETRY, found.byDeadline);
            assertEquals(found.byDeadline ? 1 : 2, found.exit);
        }
        assertEquals(40_000_000L, cascade.typicalNanos(2));
    }

    @Test
    public void stageThatStaysSlowBreaksFewDeadlines() throws Exception {
        Cascade cascade = cascade(UNSURE, UNSURE, SURE_OF_7);
        loader.nanos.put("stage_3.tflite", 50_000_000L);
        cascade.predict(image);
        for (int round = 0; round < 3; round++) {
            for (int skip = 0; skip < Cascade.SKIPS_UNTIL_RETRY; skip++) {
                assertEquals(1, cascade.predict(image, 40).exit);
            }
            assertEquals(50_000_000L, cascade.predict(image, 40).nanos);
        }
    }

    @Test
    public void deadlineThatNoLaterStageCouldMeetSaysNothingOfTheirSpeed() throws Exception {
        Cascade cascade = cascade(UNSURE, UNSURE, SURE_OF_7);
        loader.nanos.put("stage_1.tflite", 10_000_000L);
        loader.nanos.put("stage_2.tflite", 20_000_000L);
        cascade.predict(image);
        for (int answer = 0; answer < 2 * Cascade.SKIPS_UNTIL_RETRY; answer++) {
            assertEquals(0, cascade.predict(image, 10).exit);
        }
        assertEquals(0, cascade.predict(image, 29).exit);
    }

    @Test
    public void loadingIsNoPartOfAStagesTime() throws Exception {
        loader.loadNanos = 400_000_000L;
        Cascade cascade = cascade(UNSURE, UNSURE, SURE_OF_7);
        loader.nanos.put("stage_3.tflite", 40_000_000L);
        Prediction first = cascade.predict(image, 50);
        assertEquals(2, first.exit);
        assertEquals(40_000_000L, first.nanos);
        assertEquals(40_000_000L, cascade.typicalNanos(2));
    }

    @Test
    public void firstStageAlwaysRuns() throws Exception {
        loader.nanos.put("stage_1.tflite", 5_000_000L);
        Prediction found = cascade(UNSURE, UNSURE, UNSURE).predict(image, 5);
        assertEquals(0, found.exit);
        assertTrue(found.byDeadline);
    }

    @Test
    public void unfitThresholdsChangeNothing() throws Exception {
        final Cascade cascade = cascade(UNSURE);
        double[] before = cascade.thresholds();
        for (final double[] unfit : new double[][] {{0.1}, {0.1, 0.2, 0.3}, {Double.NaN, 0}, {-2, 0}, {0, 1001}}) {
            assertThrows(BundleException.class, new ThrowingRunnable() {
                @Override
                public void run() throws BundleException {
                    cascade.setThresholds(unfit);
                }
            });
        }
        assertArrayEquals(before, cascade.thresholds(), 0);
        assertArrayEquals(bundle.manifest.thresholds(), before, 0);
    }

    @Test
    public void imagesOfAnotherSizeOrRangeAreRefused() throws Exception {
        final Cascade cascade = cascade(UNSURE);
        float[] tooBright = image.clone();
        tooBright[5] = 1.01f;
        float[] none = image.clone();
        none[5] = Float.NaN;
        for (final float[] wrong : new float[][] {new float[3], tooBright, none}) {
            assertThrows(BundleException.class, new ThrowingRunnable() {
                @Override
                public void run() throws BundleException {
                    cascade.predict(wrong);
                }
            });
        }
        assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws BundleException {
                cascade.predict(image, 0);
            }
        });
    }

    @Test
    public void logitsThatAreNotFiniteGiveNoAnswer() throws Exception {
        float[] broken = SURE_OF_7.clone();
        broken[9] = Float.NaN;
        final Cascade cascade = cascade(UNSURE, broken, SURE_OF_7);
        loader.logits.put("unsplit.tflite", broken);
        final Unsplit unsplit = new Unsplit(bundle, loader);
        assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws BundleException {
                cascade.predict(image);
            }
        });
        assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws BundleException {
                unsplit.predict(image);
            }
        });
        loader.logits.put("stage_1.tflite", SURE_OF_3);
        assertEquals("an exit that is not reached does not count", 3, cascade.predict(image).prediction);
    }

    @Test
    public void closingClosesEveryStage() throws Exception {
        Cascade cascade = cascade(UNSURE);
        assertEquals(3, loader.open);
        cascade.close();
        assertEquals(0, loader.open);
    }

    @Test
    public void requantisedFeaturesAreInTheNextStagesScale() throws Exception {
        final String text = TestFiles.text(new java.io.File(TestFiles.assets(), "bundles/int8/manifest.json"));
        org.json.JSONObject json = new org.json.JSONObject(text);
        json.getJSONArray("stages").getJSONObject(1).put("handover", "requantise").getJSONObject("input")
                .put("quantisation", new org.json.JSONObject().put("scale", 0.5).put("zero_point", 7));
        final BundleSource files = new FolderSource(new java.io.File(TestFiles.assets(), "bundles/int8"));
        Bundle changed = Bundle.open(new BundleSource() {
            @Override
            public String name() {
                return "changed";
            }

            @Override
            public java.io.InputStream open(String file) throws java.io.IOException {
                return file.equals(Manifest.FILE)
                        ? new java.io.ByteArrayInputStream(json.toString().getBytes("UTF-8")) : files.open(file);
            }
        });
        loader.logits.put("stage_1.tflite", UNSURE);
        new Cascade(changed, loader).predict(image);
        // Features of 0 are the giving tensor's zero point, and 7 in the taking one's scale.
        for (byte value : loader.inputs.get("stage_2.tflite")) {
            assertEquals(7, value);
        }
    }
}
