package org.rditf.demo;

import android.os.Handler;
import android.os.Looper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executor;
import org.rditf.core.Bundle;
import org.rditf.core.BundleException;
import org.rditf.core.Cascade;
import org.rditf.core.Comparison;
import org.rditf.core.GoldenCheck;
import org.rditf.core.Manifest;
import org.rditf.core.Samples;
import org.rditf.core.StageLoader;
import org.rditf.core.Unsplit;

/** The loaded network. Works on one thread of its own; answers come on the main thread. */
final class Engine {
    /** Who asks. When it is a question's turn, after a benchmark say, nobody may want its answer any more. */
    interface Asker {
        /** Asked on the engine's thread: false lets the question go, and no more is heard of it. */
        boolean waits();
    }

    /** A network that is ready, or why it is not. */
    interface Opened extends Asker {
        void onOpened(Network network);

        void onFailed(String message);
    }

    /** An answer, or why there is none. */
    interface Answered extends Asker {
        void onAnswer(Answer answer);

        void onFailed(String message);
    }

    /** What is known of the network that is loaded. */
    static final class Network {
        final String name;
        final Manifest manifest;
        final Samples samples;

        Network(String name, Manifest manifest, Samples samples) {
            this.name = name;
            this.manifest = manifest;
            this.samples = samples;
        }
    }

    /** What came out, and what the stages that were not run would have taken. */
    static final class Answer {
        final Comparison comparison;
        final long[] typicalNanos;

        Answer(Comparison comparison, long[] typicalNanos) {
            this.comparison = comparison;
            this.typicalNanos = typicalNanos;
        }
    }

    private final DemoApp app;
    private final Executor worker;
    private final Handler main = new Handler(Looper.getMainLooper());
    private String loadedAs;
    private Network network;
    private Cascade cascade;
    private Unsplit unsplit;

    Engine(DemoApp app, Executor worker) {
        this.app = app;
        this.worker = worker;
    }

    /** Loads one of the app's bundles and holds it against its golden vectors, unless it is loaded like this already. */
    void open(final String bundle, final Delegate delegate, final int threads, final Opened then) {
        worker.execute(new Runnable() {
            @Override
            public void run() {
                if (!then.waits()) {
                    return;
                }
                try {
                    String as = bundle + "/" + delegate + "/" + threads;
                    if (!as.equals(loadedAs)) {
                        close();
                        load(bundle, app.newLoader(delegate, threads));
                        loadedAs = as;
                    }
                    post(then, network, null);
                } catch (BundleException | IOException | RuntimeException error) {
                    close();
                    post(then, null, String.valueOf(error.getMessage()));
                }
            }
        });
    }

    /** Classifies an image with the network that is loaded. */
    void run(final float[] image, final double[] thresholds, final double deadlineMs, final Answered then) {
        worker.execute(new Runnable() {
            @Override
            public void run() {
                if (!then.waits()) {
                    return;
                }
                try {
                    if (cascade == null) {
                        throw new BundleException("nothing is loaded");
                    }
                    cascade.setThresholds(thresholds);
                    Comparison found = Comparison.run(cascade, unsplit, image, deadlineMs);
                    long[] typical = new long[network.manifest.exits()];
                    for (int stage = 0; stage < typical.length; stage++) {
                        typical[stage] = cascade.typicalNanos(stage);
                    }
                    post(then, new Answer(found, typical), null);
                } catch (BundleException | RuntimeException error) {
                    post(then, null, String.valueOf(error.getMessage()));
                }
            }
        });
    }

    private void load(String name, StageLoader loader) throws BundleException, IOException {
        Bundle bundle = Bundle.open(new AssetSource(app.getAssets(), name));
        cascade = new Cascade(bundle, loader);
        unsplit = new Unsplit(bundle, loader);
        GoldenCheck.run(cascade).require();
        GoldenCheck.requireUnsplit(unsplit);
        network = new Network(name, bundle.manifest, samples(app, bundle.manifest));
    }

    /** The app's sample images as a network takes them. */
    static Samples samples(DemoApp app, Manifest manifest) throws BundleException, IOException {
        try (InputStream arrays = app.getAssets().open("samples/samples.npz");
                InputStream description = app.getAssets().open("samples/samples.json")) {
            String text = new String(Streams.bytes(description), StandardCharsets.UTF_8);
            return new Samples(arrays, text, manifest.preprocessing);
        }
    }

    private void close() {
        loadedAs = null;
        network = null;
        if (cascade != null) {
            cascade.close();
            cascade = null;
        }
        if (unsplit != null) {
            unsplit.close();
            unsplit = null;
        }
    }

    private void post(final Opened then, final Network opened, final String failure) {
        main.post(new Runnable() {
            @Override
            public void run() {
                if (failure == null) {
                    then.onOpened(opened);
                } else {
                    then.onFailed(failure);
                }
            }
        });
    }

    private void post(final Answered then, final Answer answer, final String failure) {
        main.post(new Runnable() {
            @Override
            public void run() {
                if (failure == null) {
                    then.onAnswer(answer);
                } else {
                    then.onFailed(failure);
                }
            }
        });
    }
}
