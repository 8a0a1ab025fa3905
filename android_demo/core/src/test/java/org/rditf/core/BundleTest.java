package org.rditf.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import org.json.JSONObject;
import org.junit.Before;
import org.junit.Rule;
import org.junit.Test;
import org.junit.function.ThrowingRunnable;
import org.junit.rules.TemporaryFolder;

/** Bundles that are whole, and what is said of those that are not. */
public class BundleTest {
    @Rule
    public final TemporaryFolder temporary = new TemporaryFolder();

    private File folder;
    private File manifest;

    @Before
    public void copy() throws Exception {
        folder = temporary.getRoot();
        manifest = new File(folder, Manifest.FILE);
        for (File file : new File(TestFiles.assets(), "bundles/int8").listFiles()) {
            Files.copy(file.toPath(), new File(folder, file.getName()).toPath());
        }
    }

    private String refusal() {
        return assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws BundleException {
                Bundle.open(new FolderSource(folder)).golden();
            }
        }).getMessage();
    }

    private void write(String text) throws Exception {
        Files.write(manifest.toPath(), text.getBytes(StandardCharsets.UTF_8));
    }

    private JSONObject json() throws Exception {
        return new JSONObject(TestFiles.text(manifest));
    }

    @Test
    public void aWholeBundle() throws Exception {
        Manifest found = Bundle.open(new FolderSource(folder)).manifest;
        JSONObject json = json();
        assertEquals(json.getString("name"), found.name);
        assertEquals("int8", found.dtype);
        assertEquals(3, found.exits());
        assertEquals("main", found.exitNames.get(2));
        assertEquals(ExitPolicy.ENTROPY, found.policy);
        assertEquals(json.getJSONObject("policy").getJSONArray("thresholds").getDouble(1), found.thresholds()[1], 0);
        assertEquals(Piece.Handover.DIRECT, found.stages.get(1).handover);
        assertFalse(found.stages.get(0).input.isInt8());
        assertTrue(found.stages.get(1).input.isInt8());
        assertEquals(26 * 26 * 32, found.stages.get(1).input.elements());
        assertEquals(5, found.files().size());
    }

    @Test
    public void goldenVectorsFollowFromTheirLogits() throws Exception {
        Bundle bundle = Bundle.open(new FolderSource(folder));
        GoldenVectors golden = bundle.golden();
        assertEquals(28 * 28, golden.image(golden.count - 1).length);
        for (int index = 0; index < golden.count; index++) {
            float[][] reached = new float[golden.exits[index] + 1][];
            for (int exit = 0; exit < reached.length; exit++) {
                reached[exit] = golden.logits(index, exit);
            }
            ExitPolicy.Verdict verdict = bundle.manifest.policy.judge(reached);
            assertEquals(golden.score(index, golden.exits[index]), verdict.score, 1e-12);
            assertEquals(golden.predictions[index], verdict.prediction);
        }
    }

    @Test
    public void filesThatAreMissingCutOffOrAltered() throws Exception {
        File stage = new File(folder, "stage_2.tflite");
        byte[] bytes = Files.readAllBytes(stage.toPath());
        bytes[bytes.length / 2] ^= 1;
        Files.write(stage.toPath(), bytes);
        assertTrue(refusal(), refusal().endsWith("stage_2.tflite: its SHA-256 is not the one in manifest.json: altered"));
        try (FileOutputStream stream = new FileOutputStream(stage)) {
            stream.write(bytes, 0, 100);
        }
        assertTrue(refusal(), refusal().endsWith("bytes, got 100: not whole"));
        assertTrue(stage.delete());
        assertTrue(refusal(), refusal().endsWith("stage_2.tflite is missing or cannot be read"));
        assertTrue(manifest.delete());
        assertTrue(refusal(), refusal().endsWith("is not a bundle: manifest.json cannot be read"));
    }

    @Test
    public void manifestsThatCannotBeUsed() throws Exception {
        String text = TestFiles.text(manifest);
        assertRefused("{", "manifest.json: ");
        assertRefused("[]", "manifest.json: ");
        assertRefused("{}", "not a bundle's manifest, it has no format number");
        assertRefused(text.replace("\"format\": 1", "\"format\": 2"), "format 2 is newer than this app reads (1)");
        assertRefused(text.replace("\"batch_size\": 1", "\"batch_size\": 8"), "takes 8 images at a time");
        assertRefused(text.replace("\"entropy\"", "\"guess\""), "policy: expected one of [entropy, ");
        assertRefused(text.replace("\"bilinear\"", "\"nearest\""), "resize 'bilinear', got 255.0, 'nearest'");
        assertRefused(text.replace("\"branch_2\"", "\"branch_9\""), "exit_names: expected branch_1, …, main");
        assertRefused(text.replace("\"direct\"", "\"magic\""), "handover: expected image, direct or requantise");
        assertRefused(text.replace("\"stage_2.tflite\"", "\"../stage_2.tflite\""), "expected a plain name");
        assertRefused(text.replace("\"stage_2.tflite\"", "\"stage_1.tflite\""), "expected each once");
        assertRefused(text.replace("\"tolerance\":", "\"tolerances\":"), "tolerance");
        assertRefused(text.replaceFirst("\"scale\": [0-9.e-]+", "\"scale\": -1"), "expected a scale > 0");
    }

    @Test
    public void manifestsThatDoNotFitTogether() throws Exception {
        JSONObject json = json();
        json.getJSONObject("policy").getJSONArray("thresholds").put(0.5);
        assertRefused(json.toString(), "thresholds: expected 2, one for each exit but the last, got 3");
        json = json();
        json.getJSONArray("stages").getJSONObject(1).getJSONObject("input").getJSONArray("shape").put(3, 31);
        assertRefused(json.toString(), "stages[1]: expected input 'features' of shape [1, 26, 26, 32], got 'features'");
        json = json();
        json.getJSONArray("stages").getJSONObject(0).put("handover", "direct");
        assertRefused(json.toString(), "stages[0].handover: expected image for the first stage only");
        json = json();
        json.getJSONArray("labels").put("ten");
        assertRefused(json.toString(), "stages[0]: expected logits of one number for each label");
        json = json();
        json.getJSONArray("stages").remove(2);
        assertRefused(json.toString(), "stages: expected one for each exit");
    }

    @Test
    public void goldenVectorsOfAnotherShape() throws Exception {
        JSONObject json = json();
        json.getJSONObject("golden").put("images", 15);
        assertRefused(json.toString(), "golden.npz: expected f4 [15, 28, 28, 1], got f4 [16, 28, 28, 1]");
    }

    @Test
    public void arraysThatAreNone() {
        for (final byte[] bytes : new byte[][] {{}, {1, 2, 3}, "PK no zip".getBytes(StandardCharsets.US_ASCII)}) {
            assertThrows(java.io.IOException.class, new ThrowingRunnable() {
                @Override
                public void run() throws Exception {
                    Npz.read(new ByteArrayInputStream(bytes));
                }
            });
        }
    }

    @Test
    public void samplesAreWholePixels() throws Exception {
        Bundle bundle = TestFiles.bundle("int8");
        Samples samples = TestFiles.samples(bundle);
        assertArrayEquals(new String[] {"clean", "adversarial", "slowdown"}, samples.versions.toArray());
        float[] clean = samples.images("clean").images[3];
        float[] attacked = samples.images("adversarial").images[3];
        float largest = 0;
        for (int index = 0; index < clean.length; index++) {
            assertEquals(Math.rint(255 * clean[index]) / 255, clean[index], 1e-6);
            largest = Math.max(largest, Math.abs(clean[index] - attacked[index]));
        }
        assertEquals(0.3, largest, 0.003);
        assertEquals(samples.label(3), samples.images("slowdown").labels[3]);
    }

    private void assertRefused(String text, String why) throws Exception {
        String before = TestFiles.text(manifest);
        write(text);
        String refusal = refusal();
        assertTrue(refusal, refusal.contains(why));
        write(before);
    }
}
