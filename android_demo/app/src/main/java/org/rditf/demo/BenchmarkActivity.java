package org.rditf.demo;

import android.app.Activity;
import android.content.Intent;
import android.os.Build;
import android.os.Bundle;
import android.view.Gravity;
import android.view.View;
import android.widget.Button;
import android.widget.ProgressBar;
import android.widget.Spinner;
import android.widget.TableLayout;
import android.widget.TableRow;
import android.widget.TextView;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.json.JSONException;
import org.json.JSONObject;
import org.rditf.core.BenchmarkResult;
import org.rditf.core.Statistics;

/**
 * Measures a bundle over labelled images.
 *
 * <p>{@code adb shell am start -n org.rditf.demo/.BenchmarkActivity --es args JSON} measures at once and writes the
 * result to the log, which `rdi-tf benchmark --adb` reads; docs/latency.md describes both.
 */
public final class BenchmarkActivity extends Activity implements BenchmarkJob.Listener {
    /** Name of the bundle to begin with. */
    static final String BUNDLE = "bundle";
    /** Threads, an int, and delegate, by its key, that the button measures with. */
    static final String THREADS = "threads";
    static final String DELEGATE = "delegate";
    private static final String ARGUMENTS = "args";
    private static final String GOLDEN = "";
    private static final List<String> IMAGES = Arrays.asList("clean", "adversarial", "slowdown", GOLDEN);

    private BenchmarkJob job;
    private List<String> bundles;
    private Spinner bundle;
    private Spinner images;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.activity_benchmark);
        job = ((DemoApp) getApplication()).benchmark();
        bundles = AssetSource.names(getAssets());
        bundle = findViewById(R.id.bundle);
        images = findViewById(R.id.images);
        Choices.Chosen nothing = new Choices.Chosen() {
            @Override
            public void onChosen(int index) {}
        };
        Choices.fill(bundle, bundles, bundles.indexOf(getIntent().getStringExtra(BUNDLE)), nothing);
        List<String> texts = new ArrayList<>(Choices.versions(this, IMAGES));
        texts.set(IMAGES.indexOf(GOLDEN), getString(R.string.images_golden));
        Choices.fill(images, texts, 0, nothing);
        findViewById(R.id.start).setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                startOrStop();
            }
        });
        if (state == null) {
            startAsAsked(getIntent());
        }
    }

    @Override
    protected void onNewIntent(Intent intent) {
        super.onNewIntent(intent);
        startAsAsked(intent);
    }

    @Override
    protected void onStart() {
        super.onStart();
        job.setListener(this);
        onChanged();
    }

    @Override
    protected void onStop() {
        // In the background Android slows the app, and its times would count as any others. Another screen of this kind
        // that has come before this one measures for itself.
        if (job.removeListener(this) && !isChangingConfigurations()) {
            job.stop(getString(R.string.benchmark_left));
        }
        super.onStop();
    }

    private void startAsAsked(Intent intent) {
        String arguments = intent.getStringExtra(ARGUMENTS);
        if (arguments != null) {
            showOnLockedPhone();
            job.start(arguments);
        }
    }

    /** Nobody may be there to unlock a phone that a computer measures; behind its lock this screen would be left. */
    private void showOnLockedPhone() {
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O_MR1) {
            setShowWhenLocked(true);
            setTurnScreenOn(true);
        }
    }

    private void startOrStop() {
        if (job.running()) {
            job.stop(getString(R.string.benchmark_stopped));
            return;
        }
        String set = IMAGES.get(images.getSelectedItemPosition());
        try {
            JSONObject arguments = new JSONObject().put("images", set.equals(GOLDEN) ? JSONObject.NULL : set);
            if (!bundles.isEmpty()) {
                arguments.put("bundle", bundles.get(bundle.getSelectedItemPosition()));
            }
            arguments.put("threads", getIntent().getIntExtra(THREADS, 1));
            arguments.put("delegate", getIntent().getStringExtra(DELEGATE));
            job.start(arguments.put("limit", Integer.MAX_VALUE).put("rounds", 10).put("max_seconds", 60).toString());
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public void onChanged() {
        Button start = findViewById(R.id.start);
        start.setText(job.running() ? R.string.stop : R.string.start);
        ProgressBar progress = findViewById(R.id.progress);
        progress.setVisibility(job.running() ? View.VISIBLE : View.INVISIBLE);
        progress.setIndeterminate(job.round() == 0);
        progress.setMax(job.rounds());
        progress.setProgress(job.round());
        getWindow().getDecorView().setKeepScreenOn(job.running());
        TextView status = findViewById(R.id.status);
        ((TableLayout) findViewById(R.id.table)).removeAllViews();
        ((TextView) findViewById(R.id.files)).setText("");
        if (job.failure() != null) {
            status.setText(getString(R.string.benchmark_failed, job.failure()));
        } else if (job.running()) {
            status.setText(getString(R.string.benchmark_round, job.round(), job.rounds()));
        } else if (job.result() != null) {
            show(job.result(), status);
        } else {
            status.setText(R.string.benchmark_idle);
        }
    }

    private void show(BenchmarkResult result, TextView status) {
        status.setText(getString(R.string.benchmark_summary, result.name, result.dtype, result.count(),
                100 * result.accuracy, 100 * result.macsSaving(), 100 * result.latencySaving(), result.delegate,
                getResources().getQuantityString(R.plurals.thread_count, result.threads, result.threads)));
        TableLayout table = findViewById(R.id.table);
        table.addView(row(true, getString(R.string.column_what), getString(R.string.column_images),
                getString(R.string.column_median), "p90", "p95"));
        List<String> names = result.exitNames();
        for (int stage = 0; stage < names.size(); stage++) {
            table.addView(row(getString(R.string.row_stage, names.get(stage)), "", result.invoke(stage)));
        }
        for (int exit = 0; exit < names.size(); exit++) {
            table.addView(row(getString(R.string.row_exit, names.get(exit)), Integer.toString(result.leftAt(exit)),
                    result.exit(exit)));
        }
        table.addView(row(getString(R.string.row_mix), Integer.toString(result.count()), result.mix));
        table.addView(row(getString(R.string.row_unsplit), Integer.toString(result.count()), result.unsplit));
        ((TextView) findViewById(R.id.files)).setText(getString(R.string.benchmark_files, job.files()));
    }

    private TableRow row(String what, String count, Statistics times) {
        return row(false, what, count, milliseconds(times.median), milliseconds(times.p90), milliseconds(times.p95));
    }

    private TableRow row(boolean heading, String... texts) {
        TableRow row = new TableRow(this);
        int gap = (int) new Paints(this).dp(6);
        for (int column = 0; column < texts.length; column++) {
            TextView cell = new TextView(this);
            cell.setTextAppearance(heading ? android.R.style.TextAppearance_Material_Body2
                    : android.R.style.TextAppearance_Material_Body1);
            cell.setText(texts[column]);
            cell.setGravity(column == 0 ? Gravity.START : Gravity.END);
            cell.setPadding(column == 0 ? 0 : gap, gap / 2, 0, gap / 2);
            row.addView(cell);
        }
        return row;
    }

    private static String milliseconds(double time) {
        return String.format(Locale.getDefault(), "%.3f", time);
    }
}
