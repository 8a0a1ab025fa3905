package org.rditf.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Collections;
import org.json.JSONObject;
import org.junit.Test;
import org.junit.function.ThrowingRunnable;

/** Measurements: what is counted, and how it is written. */
public class BenchmarkTest {
    private static final double[][] TIMES = {{1, 10}, {2, 20}, {3, 60}};

    private static BenchmarkResult run(String bundleName, StageLoader loader, String options, String version)
            throws Exception {
        Bundle bundle = TestFiles.bundle(bundleName);
        BenchmarkOptions parsed = BenchmarkOptions.parse(options);
        LabelledImages images = version == null ? LabelledImages.golden(bundle, parsed.limit)
                : TestFiles.samples(bundle).images(version).first(parsed.limit);
        return Benchmark.run(bundle, 1_000_000, loader, parsed, images, null);
    }

    @Test
    public void statisticsByHand() throws Exception {
        Statistics found = new Statistics(TIMES);
        assertEquals(6, found.count);
        assertEquals(16, found.mean, 1e-12);
        assertEquals(6.5, found.median, 1e-12);
        assertEquals(40, found.p90, 1e-12);
        assertEquals(50, found.p95, 1e-12);
        // Medians of the images: 2 and 20.
        assertEquals(11, found.typical, 1e-12);
        assertEquals(Math.sqrt(2578 / 6.0), found.std, 1e-12);
        assertEquals(1.25, found.json().getDouble("p5"), 1e-12);
        assertEquals(60, found.json().getDouble("max"), 0);
    }

    @Test
    public void realBundleIsMeasuredAndWritten() throws Exception {
        BenchmarkResult result = run("int8", TestFiles.litert(), "{\"rounds\": 3, \"warmup_rounds\": 1, \"limit\": 50}",
                "clean");
        Npz python = TestFiles.reference("int8");
        int[] left = new int[3];
        for (int image = 0; image < 50; image++) {
            left[python.get("exits").ints()[image]]++;
        }
        for (int exit = 0; exit < 3; exit++) {
            assertEquals(left[exit], result.leftAt(exit));
        }
        assertEquals(150, result.mix.count);
        assertTrue(result.macsSaving() > 0);
        String json = result.toJson(Collections.<String, Object>singletonMap("command", "test"), null, 0.5);
        assertFalse(json.contains("\n"));
        JSONObject read = new JSONObject(json);
        assertEquals(3, read.getInt("rounds"));
        assertEquals(50, read.getJSONObject("mix").getJSONObject("warmup").getInt("count"));
        assertTrue(read.isNull("peak_mem_mb"));
        // build.sh has rdi-tf read it.
        File file = new File(TestFiles.output(), "benchmark.json");
        Files.write(file.toPath(), json.getBytes(StandardCharsets.UTF_8));
    }

    @Test
    public void csvHasARowForEverything() throws Exception {
        String[] rows = run("float32", TestFiles.litert(), "{\"rounds\": 1, \"warmup_rounds\": 1}", null).toCsv()
                .split("\n");
        assertEquals("what,name,count,mean_ms,median_ms,p90_ms,p95_ms,typical_ms,images", rows[0]);
        assertEquals(1 + 3 + 3 + 2, rows.length);
        assertTrue(rows[4], rows[4].startsWith("exit,branch_1,16,"));
        assertTrue(rows[7], rows[7].startsWith("whole,mix,16,") && rows[7].endsWith(",16"));
    }

    @Test
    public void bundleThatDoesNotHoldIsNotMeasured() {
        BundleException error = assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws Exception {
                BenchmarkTest.run("float32", new FakeLoader(), "{}", null);
            }
        });
        assertTrue(error.getMessage(), error.getMessage().startsWith("does not hold on this machine: 16 images: "));
    }

    @Test
    public void canBeBrokenOffWhileItWarmsUp() throws Exception {
        final Bundle bundle = TestFiles.bundle("int8");
        final BenchmarkOptions options = BenchmarkOptions.parse("{\"warmup_rounds\": 100000}");
        final LabelledImages images = LabelledImages.golden(bundle, 1);
        BundleException error = assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws Exception {
                Benchmark.run(bundle, 0, TestFiles.litert(), options, images, new Benchmark.Progress() {
                    @Override
                    public boolean round(int done, int of) {
                        assertEquals(0, done);
                        assertEquals(30, of);
                        return false;
                    }
                });
            }
        });
        assertEquals("the benchmark was broken off", error.getMessage());
    }

    @Test
    public void logLinesAreShortAndJoinToTheResult() throws Exception {
        assertEquals("{\"id\":\"a\",\"result\":{}}", LogLines.result("a", "{}").get(0));
        StringBuilder names = new StringBuilder();
        for (int number = 0; number < 3000; number++) {
            names.append("\"ä€😀").append(number).append("\\\"\",");
        }
        String json = "[" + names + "0]";
        StringBuilder joined = new StringBuilder();
        for (String line : LogLines.result("a", json)) {
            assertTrue(line.getBytes(StandardCharsets.UTF_8).length <= LogLines.LONGEST);
            joined.append(new JSONObject(line).getString("text"));
        }
        assertEquals(json, joined.toString());
        assertEquals("one two", new JSONObject(LogLines.error("a", "one\ntwo")).getString("error"));
    }

    @Test
    public void defaultsAreThoseOfTheCommandLine() throws Exception {
        BenchmarkOptions options = BenchmarkOptions.parse("{}");
        assertEquals(30, options.rounds);
        assertEquals(3, options.warmupRounds);
        assertEquals(100, options.limit);
        assertEquals(150, options.maxSeconds, 0);
        assertEquals(null, options.bundle);
    }

    @Test
    public void unusableOptionsAreRefused() {
        for (final String text : new String[] {"", "[]", "{\"rounds\": 0}", "{\"threads\": \"many\"}",
            "{\"max_seconds\": 0}"}) {
            assertThrows(BundleException.class, new ThrowingRunnable() {
                @Override
                public void run() throws BundleException {
                    BenchmarkOptions.parse(text);
                }
            });
        }
    }
}
