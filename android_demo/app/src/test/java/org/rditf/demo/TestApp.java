package org.rditf.demo;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import org.rditf.core.Bundle;
import org.rditf.core.BundleException;
import org.rditf.core.FolderSource;
import org.rditf.core.LiteRt;
import org.rditf.core.Piece;
import org.rditf.core.StageLoader;
import org.rditf.core.StageRunner;
import org.rditf.core.Steps;
import org.rditf.core.TestFiles;

/** The app with LiteRT of the Python wheel in place of Android's, and with its work done on the spot. */
public final class TestApp extends DemoApp {
    /** What loading a file fails with; null lets it load. */
    String failure;
    Delegate delegate;
    int threads;
    /** How often an unsplit network was run. */
    int unsplitRuns;
    /** Whether unsplit networks give zeros instead of logits. */
    boolean brokenUnsplit;
    /** What is done, once, when the next file is run; null for nothing. */
    Runnable meanwhile;
    /** What is done on the app's thread for inference. */
    final OnTheSpot inference = new OnTheSpot();
    /** What is done on its thread for pictures. */
    final OnTheSpot reading = new OnTheSpot();

    /** Stands in for a thread. */
    static final class OnTheSpot implements Executor {
        /** Whether work is put off until {@link #goOn}. */
        boolean waits;
        private final List<Runnable> putOff = new ArrayList<>();

        @Override
        public void execute(Runnable work) {
            if (waits) {
                putOff.add(work);
            } else {
                work.run();
            }
        }

        void goOn() {
            waits = false;
            for (Runnable work : putOff) {
                work.run();
            }
            putOff.clear();
            Screen.idle();
        }
    }

    @Override
    protected Executor newWorker() {
        return inference;
    }

    @Override
    protected Executor newPictureWorker() {
        return reading;
    }

    @Override
    protected StageLoader newLoader(Delegate asked, int askedThreads) {
        delegate = asked;
        threads = askedThreads;
        final LiteRt litert;
        try {
            litert = TestFiles.litert();
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
        return new StageLoader() {
            @Override
            public StageRunner load(Bundle bundle, Piece piece) throws BundleException {
                if (failure != null) {
                    throw new BundleException(failure);
                }
                File folder = bundle.source instanceof FolderSource ? ((FolderSource) bundle.source).folder
                        : new File(TestFiles.assets(), "bundles/" + bundle.source.name());
                return watched(litert.load(folder, piece), piece == bundle.manifest.unsplit);
            }

            @Override
            public String delegate() {
                return litert.delegate();
            }

            @Override
            public int threads() {
                return threads;
            }
        };
    }

    private StageRunner watched(final StageRunner runner, final boolean unsplit) {
        return new StageRunner() {
            @Override
            public Steps run(ByteBuffer input, Map<String, ByteBuffer> outputs) throws BundleException {
                unsplitRuns += unsplit ? 1 : 0;
                Runnable now = meanwhile;
                meanwhile = null;
                if (now != null) {
                    now.run();
                }
                Steps steps = runner.run(input, outputs);
                for (ByteBuffer output : outputs.values()) {
                    if (unsplit && brokenUnsplit) {
                        output.clear();
                        output.put(new byte[output.capacity()]);
                    }
                }
                return steps;
            }

            @Override
            public void close() {
                runner.close();
            }
        };
    }

    @Override
    protected String runtimeVersion() {
        return "test";
    }
}
