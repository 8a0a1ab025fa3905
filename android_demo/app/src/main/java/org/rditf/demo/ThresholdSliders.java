package org.rditf.demo;

import android.content.Context;
import android.view.ViewGroup;
import android.widget.LinearLayout;
import android.widget.SeekBar;
import android.widget.TextView;
import java.util.Locale;
import org.rditf.core.ExitPolicy;
import org.rditf.core.Manifest;

/** One slider for each exit but the last. */
final class ThresholdSliders {
    interface Moved {
        void onMoved(double[] thresholds);
    }

    private static final int STEPS = 1000;

    private final LinearLayout parent;
    private final Moved moved;
    private Manifest manifest;
    private double[] thresholds;

    ThresholdSliders(LinearLayout parent, Moved moved) {
        this.parent = parent;
        this.moved = moved;
    }

    /** Shows a network's thresholds; {@code values} are copied. */
    void show(Manifest network, double[] values) {
        manifest = network;
        thresholds = values.clone();
        parent.removeAllViews();
        for (int exit = 0; exit < thresholds.length; exit++) {
            add(exit);
        }
    }

    private void add(final int exit) {
        Context context = parent.getContext();
        final TextView text = new TextView(context);
        text.setTextAppearance(android.R.style.TextAppearance_Material_Body1);
        final SeekBar bar = new SeekBar(context);
        bar.setMax(STEPS);
        bar.setProgress(progress(thresholds[exit]));
        bar.setTag(manifest.exitNames.get(exit));
        label(exit, text, bar);
        bar.setOnSeekBarChangeListener(new SeekBar.OnSeekBarChangeListener() {
            @Override
            public void onProgressChanged(SeekBar seekBar, int progress, boolean fromUser) {
                thresholds[exit] = threshold(progress);
                label(exit, text, bar);
                moved.onMoved(thresholds.clone());
            }

            @Override
            public void onStartTrackingTouch(SeekBar seekBar) {}

            @Override
            public void onStopTrackingTouch(SeekBar seekBar) {}
        });
        int touch = (int) new Paints(context).dp(48);
        parent.addView(text, new LinearLayout.LayoutParams(ViewGroup.LayoutParams.MATCH_PARENT,
                ViewGroup.LayoutParams.WRAP_CONTENT));
        parent.addView(bar, new LinearLayout.LayoutParams(ViewGroup.LayoutParams.MATCH_PARENT, touch));
    }

    private void label(int exit, TextView text, SeekBar bar) {
        String shown = parent.getContext().getString(R.string.threshold, manifest.exitNames.get(exit),
                inWords(thresholds[exit]));
        text.setText(shown);
        bar.setContentDescription(parent.getContext().getString(R.string.thresholds) + ", " + shown);
    }

    private String inWords(double threshold) {
        if (threshold <= manifest.policy.closed) {
            return parent.getContext().getString(R.string.nothing_leaves);
        }
        return threshold >= manifest.policy.open ? parent.getContext().getString(R.string.everything_leaves)
                : text(threshold);
    }

    static String text(double number) {
        return String.format(Locale.getDefault(), "%.4f", number);
    }

    /** About what the rule's scores lie between; the slider's ends stand for what is below and above all of them. */
    private double lowest() {
        return manifest.policy == ExitPolicy.PATIENCE ? -manifest.exits() - 1 : 0;
    }

    private double highest() {
        switch (manifest.policy) {
            case PATIENCE:
                return 0;
            case MAX_PROBABILITY:
            case MARGIN:
                return 1;
            default:
                return Math.log(manifest.labels.size());
        }
    }

    /** Finer towards the sure end, where thresholds lie; patience counts, and is even. */
    private double threshold(int progress) {
        if (progress == 0 || progress == STEPS) {
            return progress == 0 ? manifest.policy.closed : manifest.policy.open;
        }
        double share = (double) progress / STEPS;
        double curved = manifest.policy == ExitPolicy.PATIENCE ? share : share * share * share;
        return lowest() + curved * (highest() - lowest());
    }

    private int progress(double threshold) {
        double share = Math.max(0, Math.min(1, (threshold - lowest()) / (highest() - lowest())));
        return (int) Math.round(STEPS * (manifest.policy == ExitPolicy.PATIENCE ? share : Math.cbrt(share)));
    }
}
