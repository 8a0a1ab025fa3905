package org.rditf.demo;

import android.os.Build;
import android.os.Handler;
import android.os.Looper;
import android.util.Log;
import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.text.SimpleDateFormat;
import java.util.Collections;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TimeZone;
import java.util.concurrent.Executor;
import org.rditf.core.Benchmark;
import org.rditf.core.BenchmarkOptions;
import org.rditf.core.BenchmarkResult;
import org.rditf.core.Bundle;
import org.rditf.core.BundleException;
import org.rditf.core.BundleSource;
import org.rditf.core.FolderSource;
import org.rditf.core.LabelledImages;
import org.rditf.core.LogLines;

/** A benchmark that is running or has run; outlives the activity that shows it. */
final class BenchmarkJob {
    static final String TAG = "RDITF_BENCHMARK";

    /** Told, on the main thread, that something has changed. */
    interface Listener {
        void onChanged();
    }

    private final DemoApp app;
    private final Executor worker;
    private final Handler main = new Handler(Looper.getMainLooper());
    private Listener listener;
    /** Why it is to be broken off; null while it is not. */
    private volatile String stopped;
    private volatile boolean running;
    private volatile int round;
    private volatile int rounds;
    private volatile String failure;
    private volatile BenchmarkResult result;
    private volatile File files;

    BenchmarkJob(DemoApp app, Executor worker) {
        this.app = app;
        this.worker = worker;
    }

    void setListener(Listener told) {
        listener = told;
    }

    /** Tells somebody no more; false if somebody else is told already. */
    boolean removeListener(Listener told) {
        if (listener != told) {
            return false;
        }
        listener = null;
        return true;
    }

    boolean running() {
        return running;
    }

    int round() {
        return round;
    }

    int rounds() {
        return rounds;
    }

    /** What went wrong; null if nothing did. */
    String failure() {
        return failure;
    }

    /** The latest result; null if there is none. */
    BenchmarkResult result() {
        return result;
    }

    /** Folder with benchmark.csv and benchmark.json of the latest result. */
    File files() {
        return files;
    }

    /** Breaks the measurement off, after the round that it is in; {@code why} is what it then fails with. */
    void stop(String why) {
        stopped = why;
    }

    /** Measures; {@code arguments} as `rdi-tf benchmark --adb` sends them. Does nothing while one is running. */
    void start(final String arguments) {
        if (running) {
            return;
        }
        running = true;
        stopped = null;
        failure = null;
        result = null;
        files = null;
        round = 0;
        changed();
        worker.execute(new Runnable() {
            @Override
            public void run() {
                measure(arguments);
                running = false;
                changed();
            }
        });
    }

    private void measure(String arguments) {
        String id = BenchmarkOptions.idOf(arguments);
        try {
            BenchmarkOptions options = BenchmarkOptions.parse(arguments);
            rounds = options.rounds;
            BenchmarkResult found = measure(options);
            String json = found.toJson(provenance(), peakMemoryMb(), null);
            files = write(found.toCsv(), json);
            for (String line : LogLines.result(id, json)) {
                Log.i(TAG, line);
            }
            result = found;
        } catch (BundleException | IOException | RuntimeException | OutOfMemoryError error) {
            failure = String.valueOf(error.getMessage());
            Log.i(TAG, LogLines.error(id, failure));
        }
    }

    private BenchmarkResult measure(BenchmarkOptions options) throws BundleException, IOException {
        goOn(); // it may have waited for its turn
        long begun = System.nanoTime();
        Bundle bundle = Bundle.open(source(options.bundle));
        long openNanos = System.nanoTime() - begun;
        LabelledImages images = options.images == null ? LabelledImages.golden(bundle, options.limit)
                : Engine.samples(app, bundle.manifest).images(options.images).first(options.limit);
        return Benchmark.run(bundle, openNanos, app.newLoader(Delegate.named(options.delegate), options.threads),
                options, images, new Benchmark.Progress() {
                    @Override
                    public void round(int done, int of) throws BundleException {
                        round = done;
                        changed();
                        goOn();
                    }
                });
    }

    /** Ends the measurement if it was broken off. */
    private void goOn() throws BundleException {
        String why = stopped;
        if (why != null) {
            throw new BundleException(why);
        }
    }

    /** A pushed bundle's folder, or one of the app's own. */
    private BundleSource source(String bundle) throws BundleException {
        if (bundle != null && bundle.startsWith("/")) {
            return new FolderSource(new File(bundle));
        }
        List<String> names = AssetSource.names(app.getAssets());
        if (names.isEmpty()) {
            throw new BundleException("the app has no bundle");
        }
        return new AssetSource(app.getAssets(), bundle == null ? names.get(0) : bundle);
    }

    private File write(String csv, String json) throws IOException {
        File folder = app.getExternalFilesDir(null);
        if (folder == null) {
            folder = app.getFilesDir();
        }
        write(new File(folder, "benchmark.csv"), csv);
        write(new File(folder, "benchmark.json"), json);
        return folder;
    }

    private static void write(File file, String text) throws IOException {
        try (FileOutputStream stream = new FileOutputStream(file)) {
            stream.write(text.getBytes(StandardCharsets.UTF_8));
        }
    }

    private Map<String, Object> provenance() {
        Map<String, Object> versions = new LinkedHashMap<>();
        versions.put("android", Build.VERSION.RELEASE + " (API " + Build.VERSION.SDK_INT + ")");
        versions.put("litert", app.runtimeVersion());
        SimpleDateFormat date = new SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss'+00:00'", Locale.ROOT);
        date.setTimeZone(TimeZone.getTimeZone("UTC"));
        Map<String, Object> provenance = new LinkedHashMap<>();
        provenance.put("command", "org.rditf.demo/.BenchmarkActivity");
        provenance.put("seed", 0);
        provenance.put("versions", versions);
        provenance.put("processor", Build.MANUFACTURER + " " + Build.MODEL + " (" + Build.HARDWARE + ")");
        provenance.put("cores", Runtime.getRuntime().availableProcessors());
        provenance.put("platform", "Android " + (Build.SUPPORTED_ABIS.length > 0 ? Build.SUPPORTED_ABIS[0] : ""));
        provenance.put("date", date.format(new Date()));
        return Collections.unmodifiableMap(provenance);
    }

    /** Largest memory of this process; null where the system does not tell. */
    private static Double peakMemoryMb() {
        try (BufferedReader lines = new BufferedReader(
                new InputStreamReader(new FileInputStream("/proc/self/status"), StandardCharsets.US_ASCII))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (line.startsWith("VmHWM:")) {
                    return Long.parseLong(line.replaceAll("[^0-9]", "")) / 1024.0;
                }
            }
        } catch (IOException | NumberFormatException error) {
            return null;
        }
        return null;
    }

    private void changed() {
        main.post(new Runnable() {
            @Override
            public void run() {
                if (listener != null) {
                    listener.onChanged();
                }
            }
        });
    }
}
