package org.rditf.demo;

import android.app.Application;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import org.rditf.core.StageLoader;
import org.tensorflow.lite.TensorFlowLite;

/** What outlives activities: the loaded network, the running benchmark, the threads that work. */
public class DemoApp extends Application {
    private Engine engine;
    private BenchmarkJob benchmark;
    private Executor pictures;

    @Override
    public void onCreate() {
        super.onCreate();
        // One thread: a delegate may ask that it be used where it was made, and measurements must not overlap.
        Executor worker = newWorker();
        engine = new Engine(this, worker);
        benchmark = new BenchmarkJob(this, worker);
        // Another: a picture may have to be downloaded first, and must not wait for a measurement either.
        pictures = newPictureWorker();
    }

    final Engine engine() {
        return engine;
    }

    final BenchmarkJob benchmark() {
        return benchmark;
    }

    /** Where pictures are read. */
    final Executor pictures() {
        return pictures;
    }

    /** Tests work on the spot instead. */
    protected Executor newWorker() {
        return Executors.newSingleThreadExecutor();
    }

    /** Tests work on the spot instead. */
    protected Executor newPictureWorker() {
        return Executors.newSingleThreadExecutor();
    }

    /** Tests run files with another runtime. */
    protected StageLoader newLoader(Delegate delegate, int threads) {
        return new LiteRtLoader(getAssets(), delegate, threads);
    }

    /** Version of the runtime, for the record. */
    protected String runtimeVersion() {
        return TensorFlowLite.runtimeVersion();
    }
}
