package org.rditf.core;

import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** What a benchmark found: the fields of `rdi-tf benchmark --json`, which can read it (rdi_tf/latency.py). */
public final class BenchmarkResult {
    private static final int FORMAT = 2;

    /** The network and its dtype. */
    public final String name;
    public final String dtype;
    /** Share of the images that were called right. */
    public final double accuracy;
    public final String delegate;
    public final int threads;
    public final Statistics mix;
    public final Statistics unsplit;
    private final Manifest manifest;
    private final String bundleSha256;
    private final LabelledImages images;
    private final double openMs;
    private final double[] loadMs;
    private final double unsplitLoadMs;
    private final double[] firstMs;
    private final Map<String, double[][]> warmup;
    private final Map<String, double[][]> times;
    private final int[] histogram;

    BenchmarkResult(Cascade cascade, Unsplit unsplit, StageLoader loader, LabelledImages images, double openMs,
            double[] firstMs, Map<String, double[][]> warmup, Map<String, double[][]> times, int[] exits,
            int[] predictions) {
        manifest = cascade.bundle.manifest;
        bundleSha256 = cascade.bundle.sha256;
        name = manifest.name;
        dtype = manifest.dtype;
        delegate = loader.delegate();
        threads = loader.threads();
        this.images = images;
        this.openMs = openMs;
        this.firstMs = firstMs;
        this.warmup = warmup;
        this.times = times;
        loadMs = new double[manifest.exits()];
        for (int stage = 0; stage < loadMs.length; stage++) {
            loadMs[stage] = Benchmark.milliseconds(cascade.loadNanos(stage));
        }
        unsplitLoadMs = Benchmark.milliseconds(unsplit.loadNanos());
        histogram = new int[manifest.exits()];
        int right = 0;
        for (int image = 0; image < exits.length; image++) {
            histogram[exits[image]]++;
            right += predictions[image] == images.labels[image] ? 1 : 0;
        }
        accuracy = (double) right / exits.length;
        mix = new Statistics(times.get(Benchmark.MIX));
        this.unsplit = new Statistics(times.get(Benchmark.UNSPLIT));
    }

    public List<String> exitNames() {
        return manifest.exitNames;
    }

    /** Number of images. */
    public int count() {
        return images.images.length;
    }

    /** How many images left at an exit. */
    public int leftAt(int exit) {
        return histogram[exit];
    }

    /** Times from the call to the answer when every image leaves at an exit. */
    public Statistics exit(int exit) {
        return new Statistics(times.get(manifest.exitNames.get(exit)));
    }

    /** Times of a stage's computation alone. */
    public Statistics invoke(int stage) {
        return new Statistics(times.get(manifest.exitNames.get(stage) + Benchmark.INVOKE));
    }

    /** Share of the multiply-adds that early exits save against the unsplit network. */
    public double macsSaving() {
        double[] macs = manifest.executedMacs();
        double used = 0;
        for (int exit = 0; exit < macs.length; exit++) {
            used += macs[exit] * histogram[exit] / count();
        }
        return 1 - used / macs[macs.length - 1];
    }

    /** Share of the time that early exits save against the unsplit network. */
    public double latencySaving() {
        return 1 - mix.typical / unsplit.typical;
    }

    /**
     * The result as JSON on one line.
     *
     * @param provenance where it was measured: command, versions, processor, date
     * @param peakMemoryMb largest memory of the process; null if unknown
     * @param loadAverage the machine's load average; null if unknown
     */
    public String toJson(Map<String, Object> provenance, Double peakMemoryMb, Double loadAverage) {
        try {
            JSONObject json = new JSONObject();
            json.put("format", FORMAT).put("name", name).put("dtype", dtype);
            json.put("bundle_sha256", bundleSha256);
            json.put("images", new JSONObject().put("source", images.source).put("count", count())
                    .put("sha256", imagesSha256()).put("accuracy", accuracy));
            json.put("rounds", times.get(Benchmark.MIX).length).put("threads", threads);
            json.put("delegate", delegate).put("open_ms", openMs);
            json.put("stages", stagesJson()).put("exits", exitsJson());
            json.put("mix", whole(stageBytes(), sum(loadMs), firstMs[0], Benchmark.MIX, mix));
            json.put("unsplit", whole(manifest.unsplit.file.bytes, unsplitLoadMs, firstMs[1], Benchmark.UNSPLIT,
                    unsplit));
            json.put("unsplit_invoke", new Statistics(times.get(Benchmark.UNSPLIT_INVOKE)).json());
            json.put("backbone_executed_macs", manifest.backboneExecutedMacs);
            json.put("peak_mem_mb", orNull(peakMemoryMb)).put("load_average", orNull(loadAverage));
            return json.put("provenance", new JSONObject(provenance)).toString();
        } catch (JSONException error) {
            throw new IllegalStateException("a number that JSON cannot hold", error);
        }
    }

    /** The result as CSV: one row for each stage, each exit, the mix and the unsplit network; milliseconds. */
    public String toCsv() {
        StringBuilder csv = new StringBuilder("what,name,count,mean_ms,median_ms,p90_ms,p95_ms,typical_ms,images\n");
        for (int stage = 0; stage < manifest.exits(); stage++) {
            row(csv, "stage_invoke", manifest.exitNames.get(stage), invoke(stage), "");
        }
        for (int exit = 0; exit < manifest.exits(); exit++) {
            row(csv, "exit", manifest.exitNames.get(exit), exit(exit), Integer.toString(histogram[exit]));
        }
        row(csv, "whole", Benchmark.MIX, mix, Integer.toString(count()));
        row(csv, "whole", Benchmark.UNSPLIT, unsplit, Integer.toString(count()));
        return csv.toString();
    }

    private static void row(StringBuilder csv, String what, String name, Statistics times, String images) {
        csv.append(String.format(Locale.ROOT, "%s,%s,%d,%.6f,%.6f,%.6f,%.6f,%.6f,%s\n", what, name, times.count,
                times.mean, times.median, times.p90, times.p95, times.typical, images));
    }

    private JSONArray stagesJson() throws JSONException {
        JSONArray stages = new JSONArray();
        for (int stage = 0; stage < manifest.exits(); stage++) {
            String exit = manifest.exitNames.get(stage);
            JSONObject json = new JSONObject().put("name", exit);
            json.put("file_bytes", manifest.stages.get(stage).file.bytes).put("load_ms", loadMs[stage]);
            json.put("feed", new Statistics(times.get(exit + Benchmark.FEED)).json());
            json.put("invoke", invoke(stage).json());
            stages.put(json.put("fetch", new Statistics(times.get(exit + Benchmark.FETCH)).json()));
        }
        return stages;
    }

    private JSONArray exitsJson() throws JSONException {
        JSONArray exits = new JSONArray();
        double[] macs = manifest.executedMacs();
        for (int exit = 0; exit < macs.length; exit++) {
            JSONObject json = new JSONObject().put("name", manifest.exitNames.get(exit));
            json.put("share", (double) histogram[exit] / count()).put("executed_macs", macs[exit]);
            exits.put(json.put("latency", exit(exit).json()));
        }
        return exits;
    }

    private JSONObject whole(long bytes, double load, double first, String kind, Statistics latency)
            throws JSONException {
        JSONObject json = new JSONObject().put("file_bytes", bytes).put("load_ms", load).put("first_ms", first);
        json.put("warmup", new Statistics(warmup.get(kind)).json()).put("latency", latency.json());
        return json.put("init_footprint_kb", JSONObject.NULL).put("overall_footprint_kb", JSONObject.NULL);
    }

    private String imagesSha256() {
        Preprocessing shape = manifest.preprocessing;
        return Sha256.ofImages(images.images, shape.height, shape.width, shape.channels);
    }

    private long stageBytes() {
        long bytes = 0;
        for (Piece stage : manifest.stages) {
            bytes += stage.file.bytes;
        }
        return bytes;
    }

    private static double sum(double[] numbers) {
        double sum = 0;
        for (double number : numbers) {
            sum += number;
        }
        return sum;
    }

    private static Object orNull(Double number) {
        return number == null ? JSONObject.NULL : number;
    }
}
