package org.rditf.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Latency of a bundle on this machine: its cascade beside its unsplit network, one image at a time.
 *
 * <p>A round is one pass over the images of each kind (the real mix of exits, the unsplit network, every image made to
 * leave at each exit in turn, each step of each file by itself), so that a machine that grows slower or faster does so
 * for all of them alike; the order within a round turns. docs/latency.md describes it.
 */
public final class Benchmark {
    static final String MIX = "mix";
    static final String UNSPLIT = "unsplit";
    static final String UNSPLIT_INVOKE = "unsplit/invoke";
    static final String FEED = "/feed";
    static final String INVOKE = "/invoke";
    static final String FETCH = "/fetch";

    /** Told how far a measurement is. */
    public interface Progress {
        /**
         * A round is over.
         *
         * @param done measured rounds, 0 during those before them
         * @param of rounds that are to be measured
         * @throws BundleException to break the measurement off, with the reason
         */
        void round(int done, int of) throws BundleException;
    }

    private interface Pass {
        void run(int image) throws BundleException;
    }

    private final Cascade cascade;
    private final Unsplit unsplit;
    private final Manifest manifest;
    private final LabelledImages images;
    private final Cascade.Clock clock;
    private final double[] thresholds;
    private final List<Pass> passes = new ArrayList<>();
    private final Map<String, double[]> current = new LinkedHashMap<>();
    private final int[] exits;
    private final int[] predictions;

    private Benchmark(Cascade cascade, Unsplit unsplit, LabelledImages images, Cascade.Clock clock) {
        this.cascade = cascade;
        this.unsplit = unsplit;
        this.images = images;
        this.clock = clock;
        manifest = cascade.bundle.manifest;
        thresholds = cascade.thresholds();
        exits = new int[images.images.length];
        predictions = new int[images.images.length];
        addPasses();
    }

    /**
     * Measures a bundle.
     *
     * @param bundle read and checked; {@code openNanos} is how long that took
     * @param loader loads its files
     * @param options rounds, warm-up and time limit
     * @param images what it is measured on
     * @param progress told after each round; null for nobody
     * @return the result; a bundle that does not reproduce its golden vectors throws
     */
    public static BenchmarkResult run(Bundle bundle, long openNanos, StageLoader loader,
            BenchmarkOptions options, LabelledImages images, Progress progress) throws BundleException {
        return run(bundle, openNanos, loader, options, images, progress, Cascade.SYSTEM);
    }

    static BenchmarkResult run(Bundle bundle, long openNanos, StageLoader loader, final BenchmarkOptions options,
            LabelledImages images, final Progress progress, Cascade.Clock clock) throws BundleException {
        try (Cascade cascade = new Cascade(bundle, loader, clock);
                Unsplit unsplit = new Unsplit(bundle, loader, clock)) {
            Benchmark benchmark = new Benchmark(cascade, unsplit, images, clock);
            double mixFirst = benchmark.firstThroughAll();
            long begun = clock.nanos();
            unsplit.predict(images.images[0]);
            double unsplitFirst = milliseconds(clock.nanos() - begun);
            GoldenCheck.run(cascade).require();
            GoldenCheck.requireUnsplit(unsplit);
            Map<String, double[][]> warmup = benchmark.rounds(options.warmupRounds, options.maxSeconds,
                    progress == null ? null : new Progress() {
                        @Override
                        public void round(int done, int of) throws BundleException {
                            progress.round(0, options.rounds);
                        }
                    });
            Map<String, double[][]> times = benchmark.rounds(options.rounds, options.maxSeconds, progress);
            return new BenchmarkResult(cascade, unsplit, loader, images, milliseconds(openNanos),
                    new double[] {mixFirst, unsplitFirst}, warmup, times, benchmark.exits, benchmark.predictions);
        }
    }

    static double milliseconds(long nanos) {
        return nanos / 1e6;
    }

    private double firstThroughAll() throws BundleException {
        cascade.setThresholds(leavingAt(cascade, thresholds.length));
        long begun = clock.nanos();
        cascade.predict(images.images[0]);
        double first = milliseconds(clock.nanos() - begun);
        cascade.setThresholds(thresholds);
        return first;
    }

    /** Thresholds under which every image leaves at that exit. */
    private static double[] leavingAt(Cascade cascade, int exit) {
        ExitPolicy policy = cascade.bundle.manifest.policy;
        double[] values = new double[cascade.bundle.manifest.exits() - 1];
        Arrays.fill(values, policy.open);
        Arrays.fill(values, 0, Math.min(exit, values.length), policy.closed);
        return values;
    }

    private void addPasses() {
        passes.add(new Pass() {
            @Override
            public void run(int image) throws BundleException {
                cascade.setThresholds(thresholds);
                long begun = clock.nanos();
                Prediction found = cascade.predict(images.images[image]);
                keep(MIX, image, clock.nanos() - begun);
                exits[image] = found.exit;
                predictions[image] = found.prediction;
            }
        });
        passes.add(new Pass() {
            @Override
            public void run(int image) throws BundleException {
                long begun = clock.nanos();
                unsplit.predict(images.images[image]);
                keep(UNSPLIT, image, clock.nanos() - begun);
            }
        });
        passes.add(new Pass() {
            @Override
            public void run(int image) throws BundleException {
                steps(image);
            }
        });
        for (int exit = 0; exit < manifest.exits(); exit++) {
            passes.add(forced(exit));
        }
    }

    private Pass forced(final int exit) {
        final double[] forcing = leavingAt(cascade, exit);
        return new Pass() {
            @Override
            public void run(int image) throws BundleException {
                cascade.setThresholds(forcing);
                long begun = clock.nanos();
                cascade.predict(images.images[image]);
                keep(manifest.exitNames.get(exit), image, clock.nanos() - begun);
            }
        };
    }

    /** Each step of each stage, all stages; and the unsplit network's computation alone. */
    private void steps(int image) throws BundleException {
        for (int index = 0; index < manifest.exits(); index++) {
            Steps steps = cascade.run(index, images.images[image]);
            String name = manifest.exitNames.get(index);
            keep(name + FEED, image, steps.feed);
            keep(name + INVOKE, image, steps.invoke);
            keep(name + FETCH, image, steps.fetch);
        }
        keep(UNSPLIT_INVOKE, image, unsplit.run(images.images[image]).invoke);
    }

    private void keep(String kind, int image, long nanos) {
        double[] times = current.get(kind);
        if (times == null) {
            times = new double[images.images.length];
            current.put(kind, times);
        }
        times[image] = milliseconds(nanos);
    }

    /** Times in milliseconds, from kind to [rounds][images]. */
    private Map<String, double[][]> rounds(int count, double maxSeconds, Progress progress) throws BundleException {
        Map<String, List<double[]>> found = new LinkedHashMap<>();
        long begun = clock.nanos();
        for (int round = 0; round < count; round++) {
            if (round > 0 && (clock.nanos() - begun) / 1e9 > maxSeconds) {
                break;
            }
            current.clear();
            for (int turn = 0; turn < passes.size(); turn++) {
                Pass pass = passes.get((round + turn) % passes.size());
                for (int image = 0; image < images.images.length; image++) {
                    pass.run(image);
                }
            }
            for (Map.Entry<String, double[]> kind : current.entrySet()) {
                if (!found.containsKey(kind.getKey())) {
                    found.put(kind.getKey(), new ArrayList<double[]>());
                }
                found.get(kind.getKey()).add(kind.getValue());
            }
            if (progress != null) {
                progress.round(round + 1, count);
            }
        }
        cascade.setThresholds(thresholds);
        Map<String, double[][]> times = new LinkedHashMap<>();
        for (Map.Entry<String, List<double[]>> kind : found.entrySet()) {
            times.put(kind.getKey(), kind.getValue().toArray(new double[0][]));
        }
        return times;
    }
}
