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

    /** Stages of 1, 2 and 4 ms and an unsplit network of 8 ms: leaving at the exits takes 1, 3 and 7 ms. */
    @Test
    public void everyKindOfTimeByHand() throws Exception {
        Bundle bundle = TestFiles.bundle("float32");
        FakeLoader loader = new FakeLoader();
        loader.golden = bundle.golden();
        loader.loadNanos = 5_000_000;
        String[] files = {"stage_1.tflite", "stage_2.tflite", "stage_3.tflite", "unsplit.tflite"};
        for (int file = 0; file < files.length; file++) {
            loader.nanos.put(files[file], 1_000_000L << file);
        }
        BenchmarkResult result = Benchmark.run(bundle, 9_000_000, loader, BenchmarkOptions.parse("{\"rounds\": 2}"),
                LabelledImages.golden(bundle, 100), null, loader);
        double[] leaving = {1, 3, 7};
        double mix = 0;
        for (int exit : loader.golden.exits) {
            mix += leaving[exit] / loader.golden.count;
        }
        JSONObject json = new JSONObject(result.toJson(Collections.<String, Object>emptyMap(), null, null));
        for (int exit = 0; exit < 3; exit++) {
            assertSame(leaving[exit], result.exit(exit));
            assertSame(1 << exit, result.invoke(exit));
            JSONObject stage = json.getJSONArray("stages").getJSONObject(exit);
            assertEquals(FakeLoader.FEED / 1e6, stage.getJSONObject("feed").getDouble("max"), 1e-12);
            assertEquals(FakeLoader.FETCH / 1e6, stage.getJSONObject("fetch").getDouble("min"), 1e-12);
            assertEquals(5, stage.getDouble("load_ms"), 1e-12);
        }
        assertEquals(mix, result.mix.mean, 1e-12);
        assertSame(8, result.unsplit);
        assertEquals(8, json.getJSONObject("unsplit_invoke").getDouble("mean"), 1e-12);
        assertEquals(8, json.getJSONObject("unsplit").getDouble("first_ms"), 1e-12);
        assertEquals(7, json.getJSONObject("mix").getDouble("first_ms"), 1e-12);
        assertEquals(9, json.getDouble("open_ms"), 1e-12);
    }

    /** That all of these times are one. */
    private static void assertSame(double milliseconds, Statistics times) throws Exception {
        assertEquals(32, times.count);
        assertEquals(milliseconds, times.json().getDouble("min"), 1e-12);
        assertEquals(milliseconds, times.json().getDouble("max"), 1e-12);
    }

    @Test
    public void noRoundIsStartedAfterTheTimeLimit() throws Exception {
        Bundle bundle = TestFiles.bundle("float32");
        FakeLoader loader = new FakeLoader();
        loader.golden = bundle.golden();
        loader.nanos.put("unsplit.tflite", 1_000_000_000L); // measured and for its steps: two seconds a round
        BenchmarkOptions options = BenchmarkOptions.parse("{\"rounds\": 2147483647, \"max_seconds\": 3}");
        BenchmarkResult result = Benchmark.run(bundle, 0, loader, options, LabelledImages.golden(bundle, 1), null,
                loader);
        assertEquals(2, result.unsplit.count);
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
    public void unsplitNetworkThatSaysSomethingElseIsNotMeasuredAgainst() throws Exception {
        final Bundle bundle = TestFiles.bundle("float32");
        final FakeLoader loader = new FakeLoader();
        loader.golden = bundle.golden();
        loader.added.put("unsplit.tflite", 1f);
        BundleException error = assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws Exception {
                BenchmarkTest.run("float32", loader, "{}", null);
            }
        });
        String message = error.getMessage();
        assertTrue(message, message.startsWith("does not hold on this machine: unsplit network: 16 images: "));
    }

    @Test
    public void canBeBrokenOffWhileItWarmsUp() throws Exception {
        final Bundle bundle = TestFiles.bundle("int8");
        final BenchmarkOptions options = BenchmarkOptions.parse("{\"warmup_rounds\": 2147483647}");
        final LabelledImages images = LabelledImages.golden(bundle, 1);
        BundleException error = assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws Exception {
                Benchmark.run(bundle, 0, TestFiles.litert(), options, images, new Benchmark.Progress() {
                    @Override
                    public void round(int done, int of) throws BundleException {
                        assertEquals(0, done);
                        assertEquals(30, of);
                        throw new BundleException("enough");
                    }
                });
            }
        });
        assertEquals("enough", error.getMessage());
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
            "{\"max_seconds\": 0}", "{\"limit\": 1.5}", "{\"warmup_rounds\": 1e30}"}) {
            assertThrows(BundleException.class, new ThrowingRunnable() {
                @Override
                public void run() throws BundleException {
                    BenchmarkOptions.parse(text);
                }
            });
        }
    }

    @Test
    public void limitsAreThoseOfTheCommandLine() throws Exception {
        BenchmarkOptions most = BenchmarkOptions.parse("{\"threads\": 256, \"rounds\": 2147483647, "
                + "\"warmup_rounds\": 2147483647, \"limit\": 2147483647}");
        assertEquals(256, most.threads);
        assertEquals(Integer.MAX_VALUE, most.rounds);
        assertEquals(Integer.MAX_VALUE, most.warmupRounds);
        assertEquals(Integer.MAX_VALUE, most.limit);
        assertRefused("threads", "257", "threads: expected a whole number from 1 to 256, got 257");
        // Cut down to an int this would be 1.
        assertRefused("rounds", "4294967297", "rounds: expected a whole number from 1 to 2147483647, got 4294967297");
    }

    private static void assertRefused(String option, String value, String message) {
        final String text = "{\"id\": \"c3\", \"" + option + "\": " + value + "}";
        assertEquals(message, assertThrows(BundleException.class, new ThrowingRunnable() {
            @Override
            public void run() throws BundleException {
                BenchmarkOptions.parse(text);
            }
        }).getMessage());
        assertEquals("c3", BenchmarkOptions.idOf(text));
    }

    @Test
    public void textWithoutAnIdHasNone() {
        for (String text : new String[] {"", "[]", "{", "{}"}) {
            assertEquals("", BenchmarkOptions.idOf(text));
        }
    }
}
