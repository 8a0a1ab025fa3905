package org.rditf.demo;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executor;
import org.rditf.core.Bundle;
import org.rditf.core.BundleException;
import org.rditf.core.FolderSource;
import org.rditf.core.LiteRt;
import org.rditf.core.Piece;
import org.rditf.core.StageLoader;
import org.rditf.core.StageRunner;
import org.rditf.core.TestFiles;

/** The app with LiteRT of the Python wheel in place of Android's, and with its work done on the spot. */
public final class TestApp extends DemoApp {
    /** What loading a file fails with; null lets it load. */
    String failure;
    Delegate delegate;
    int threads;
    /** Whether work is put off until {@link #goOn}. */
    boolean waits;
    private final List<Runnable> putOff = new ArrayList<>();

    @Override
    protected Executor newWorker() {
        return new Executor() {
            @Override
            public void execute(Runnable work) {
                if (waits) {
                    putOff.add(work);
                } else {
                    work.run();
                }
            }
        };
    }

    void goOn() {
        waits = false;
        for (Runnable work : putOff) {
            work.run();
        }
        putOff.clear();
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
                return litert.load(bundle.source instanceof FolderSource ? ((FolderSource) bundle.source).folder
                        : new File(TestFiles.assets(), "bundles/" + bundle.source.name()), piece);
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

    @Override
    protected String runtimeVersion() {
        return "test";
    }
}
