package org.rditf.demo;

import android.app.Activity;
import android.content.ActivityNotFoundException;
import android.content.Intent;
import android.graphics.Bitmap;
import android.os.Bundle;
import android.provider.MediaStore;
import android.view.View;
import android.widget.CheckBox;
import android.widget.CompoundButton;
import android.widget.LinearLayout;
import android.widget.SeekBar;
import android.widget.Spinner;
import android.widget.TextView;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicInteger;
import org.rditf.core.Manifest;
import org.rditf.core.Preprocessor;

/** Runs a bundle on samples and on the user's pictures, and shows what came out and what it took. */
public final class MainActivity extends Activity {
    static final int PICK = 1;
    static final int CAMERA = 2;
    static final int DRAW = 3;
    private static final int[] THREADS = {1, 2, 4};

    private Choice choice;
    private ResultPart result;
    private ThresholdSliders sliders;
    private Engine.Network network;
    private OwnPicture own;
    /** What the network saw last. */
    private float[] shown;
    /** Older questions are not answered, or their answers not shown. */
    private final AtomicInteger asked = new AtomicInteger();

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.activity_main);
        choice = Choice.from(state);
        result = new ResultPart(this);
        setUpPictures();
        sliders = new ThresholdSliders((LinearLayout) findViewById(R.id.thresholds), new ThresholdSliders.Moved() {
            @Override
            public void onMoved(double[] thresholds) {
                choice.thresholds = thresholds;
                ask();
            }
        });
        setUpRuntime();
        setUpButtons();
        setUpDeadline();
        open();
    }

    @Override
    protected void onSaveInstanceState(Bundle state) {
        super.onSaveInstanceState(state);
        choice.save(state);
    }

    @Override
    protected void onDestroy() {
        own.close();
        super.onDestroy();
    }

    @Override
    protected void onActivityResult(int request, int outcome, Intent data) {
        if (outcome != RESULT_OK || data == null) {
            return;
        }
        if (request == DRAW) {
            own.take((Bitmap) data.getParcelableExtra(DrawActivity.DRAWING), true);
        } else if (request == CAMERA) {
            own.take((Bitmap) data.getParcelableExtra("data"), false);
        } else if (request == PICK) {
            own.read(data.getData());
        }
    }

    private void setUpPictures() {
        PictureReader reader = new PictureReader(getContentResolver(), ((DemoApp) getApplication()).pictures());
        own = new OwnPicture(choice, reader, new OwnPicture.Listener() {
            @Override
            public void onTaken() {
                ask();
            }

            @Override
            public void onMessage(int text) {
                result.message(text == 0 ? null : getString(text));
            }
        });
    }

    private void setUpRuntime() {
        final List<String> bundles = AssetSource.names(getAssets());
        if (choice.bundle == null && !bundles.isEmpty()) {
            choice.bundle = bundles.get(0);
        }
        Choices.fill((Spinner) findViewById(R.id.bundle), bundles, bundles.indexOf(choice.bundle),
                new Choices.Chosen() {
                    @Override
                    public void onChosen(int index) {
                        choice.bundle = bundles.get(index);
                        choice.thresholds = null;
                        open();
                    }
                });
        Choices.fill((Spinner) findViewById(R.id.threads), Choices.threads(this, THREADS),
                Arrays.binarySearch(THREADS, choice.threads), new Choices.Chosen() {
                    @Override
                    public void onChosen(int index) {
                        choice.threads = THREADS[index];
                        open();
                    }
                });
        final List<Delegate> delegates = Delegate.available();
        Choices.fill((Spinner) findViewById(R.id.delegate), Choices.delegates(this, delegates),
                delegates.indexOf(choice.delegate), new Choices.Chosen() {
                    @Override
                    public void onChosen(int index) {
                        choice.delegate = delegates.get(index);
                        open();
                    }
                });
    }

    private void setUpButtons() {
        View.OnClickListener listener = new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                clicked(view.getId());
            }
        };
        for (int id : new int[] {R.id.previous, R.id.next, R.id.draw, R.id.pick, R.id.camera, R.id.reset,
            R.id.benchmark}) {
            findViewById(id).setOnClickListener(listener);
        }
        CheckBox invert = findViewById(R.id.invert);
        invert.setChecked(choice.invert);
        invert.setOnCheckedChangeListener(new CompoundButton.OnCheckedChangeListener() {
            @Override
            public void onCheckedChanged(CompoundButton button, boolean checked) {
                choice.invert = checked;
                ask();
            }
        });
    }

    private void clicked(int id) {
        if (id == R.id.previous || id == R.id.next) {
            step(id == R.id.next ? 1 : -1);
        } else if (id == R.id.draw) {
            startActivityForResult(new Intent(this, DrawActivity.class), DRAW);
        } else if (id == R.id.pick) {
            Intent pick = new Intent(Intent.ACTION_GET_CONTENT).setType("image/*").addCategory(Intent.CATEGORY_OPENABLE);
            start(pick, PICK, R.string.no_picker);
        } else if (id == R.id.camera) {
            start(new Intent(MediaStore.ACTION_IMAGE_CAPTURE), CAMERA, R.string.no_camera);
        } else if (id == R.id.benchmark) {
            startActivity(new Intent(this, BenchmarkActivity.class).putExtra(BenchmarkActivity.BUNDLE, choice.bundle)
                    .putExtra(BenchmarkActivity.THREADS, choice.threads)
                    .putExtra(BenchmarkActivity.DELEGATE, choice.delegate.key()));
        } else if (network != null) {
            choice.thresholds = null;
            sliders.show(network.manifest, thresholds());
            ask();
        }
    }

    private void start(Intent intent, int request, int otherwise) {
        try {
            startActivityForResult(intent, request);
        } catch (ActivityNotFoundException | SecurityException error) {
            result.message(getString(otherwise));
        }
    }

    private void step(int by) {
        if (network == null) {
            return;
        }
        if (choice.picture == null) {
            choice.sample = (choice.sample + by + network.samples.count) % network.samples.count;
        }
        showSample();
    }

    private void showSample() {
        choice.picture = null;
        own.drop();
        ask();
    }

    private void setUpDeadline() {
        SeekBar bar = findViewById(R.id.deadline);
        bar.setMax(Choice.NO_DEADLINE);
        bar.setProgress(choice.deadline);
        showDeadline();
        bar.setOnSeekBarChangeListener(new SeekBar.OnSeekBarChangeListener() {
            @Override
            public void onProgressChanged(SeekBar seekBar, int progress, boolean fromUser) {
                choice.deadline = progress;
                showDeadline();
                ask();
            }

            @Override
            public void onStartTrackingTouch(SeekBar seekBar) {}

            @Override
            public void onStopTrackingTouch(SeekBar seekBar) {}
        });
    }

    private void showDeadline() {
        ((TextView) findViewById(R.id.deadline_text)).setText(choice.deadline == Choice.NO_DEADLINE
                ? getString(R.string.deadline_none) : getString(R.string.deadline_ms, choice.deadlineMs()));
    }

    /** Loads what is chosen, then asks it. */
    private void open() {
        network = null;
        own.networkGone();
        final int question = asked.incrementAndGet();
        if (choice.bundle == null) {
            result.failed("assets/bundles");
            return;
        }
        ((DemoApp) getApplication()).engine().open(choice.bundle, choice.delegate, choice.threads, new Engine.Opened() {
            @Override
            public boolean waits() {
                return isNewest(question);
            }

            @Override
            public void onOpened(Engine.Network opened) {
                if (isNewest(question)) {
                    result.message(null);
                    opened(opened);
                }
            }

            @Override
            public void onFailed(String message) {
                if (isNewest(question)) {
                    result.failed(message);
                }
            }
        });
    }

    private boolean isNewest(int question) {
        return question == asked.get() && !isDestroyed();
    }

    private void opened(Engine.Network opened) {
        network = opened;
        final List<String> versions = network.samples.versions;
        Choices.fill((Spinner) findViewById(R.id.version), Choices.versions(this, versions),
                versions.indexOf(choice.version), new Choices.Chosen() {
                    @Override
                    public void onChosen(int index) {
                        choice.version = versions.get(index);
                        showSample();
                    }
                });
        if (choice.thresholds != null && choice.thresholds.length != network.manifest.exits() - 1) {
            choice.thresholds = null;
        }
        String rule = network.manifest.policy.manifestName().replace('_', ' ');
        ((TextView) findViewById(R.id.thresholds_hint)).setText(getString(R.string.thresholds_hint, rule));
        sliders.show(network.manifest, thresholds());
        boolean grey = network.manifest.preprocessing.channels == 1;
        findViewById(R.id.invert).setVisibility(grey ? View.VISIBLE : View.GONE);
        own.networkCame(network.manifest.preprocessing);
        ask();
    }

    private double[] thresholds() {
        return choice.thresholds == null ? network.manifest.thresholds() : choice.thresholds;
    }

    /** Shows the chosen picture and has it classified. */
    private void ask() {
        if (network == null) {
            return;
        }
        final Manifest manifest = network.manifest;
        final boolean mine = choice.picture != null;
        final int label = mine ? -1 : network.samples.label(choice.sample);
        final double[] thresholds = thresholds();
        float[] image;
        try {
            image = mine ? new Preprocessor(manifest.preprocessing).image(choice.picture, choice.pictureWidth,
                    choice.picture.length / choice.pictureWidth, choice.inverts(manifest.preprocessing))
                    : network.samples.image(choice.version, choice.sample);
        } catch (IOException error) {
            result.message(error.getMessage());
            return;
        }
        String title = mine ? getString(choice.drawn ? R.string.drawn : R.string.own_picture)
                : String.format(Locale.getDefault(), getString(R.string.sample), choice.sample + 1,
                        network.samples.count, manifest.labels.get(label));
        ((TextView) findViewById(R.id.title)).setText(title);
        result.picture(Pictures.bitmap(image, manifest.preprocessing), title);
        if (!Arrays.equals(image, shown)) {
            result.pending();
            shown = image;
        }
        final int question = asked.incrementAndGet();
        ((DemoApp) getApplication()).engine().run(image, thresholds, choice.deadlineMs(), new Engine.Answered() {
            @Override
            public boolean waits() {
                return isNewest(question);
            }

            @Override
            public void onAnswer(Engine.Answer answer) {
                if (isNewest(question)) {
                    result.show(answer, manifest, thresholds, label);
                }
            }

            @Override
            public void onFailed(String message) {
                if (isNewest(question)) {
                    result.unanswered(message);
                }
            }
        });
    }
}
