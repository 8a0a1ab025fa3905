package org.rditf.demo;

import android.app.Activity;
import android.graphics.Bitmap;
import android.graphics.drawable.BitmapDrawable;
import android.view.View;
import android.widget.ImageView;
import android.widget.TextView;
import java.util.ArrayList;
import java.util.List;
import org.rditf.core.Manifest;
import org.rditf.core.Prediction;

/** The screen's part that shows what came out. */
final class ResultPart {
    private final Activity activity;
    private final ImageView preview;
    private final TextView prediction;
    private final TextView verdict;
    private final TextView exitTaken;
    private final StageBarsView stages;
    private final TwoBarsView saves;
    private final TextView savesText;
    private final TextView message;

    ResultPart(Activity activity) {
        this.activity = activity;
        preview = activity.findViewById(R.id.preview);
        prediction = activity.findViewById(R.id.prediction);
        verdict = activity.findViewById(R.id.verdict);
        exitTaken = activity.findViewById(R.id.exit_taken);
        stages = activity.findViewById(R.id.stages);
        saves = activity.findViewById(R.id.saves);
        savesText = activity.findViewById(R.id.saves_text);
        message = activity.findViewById(R.id.message);
    }

    /** Says what went wrong; null takes it away. */
    void message(String text) {
        message.setText(text);
        message.setVisibility(text == null ? View.GONE : View.VISIBLE);
    }

    /** The network cannot be used: nothing is left of what it said. */
    void failed(String why) {
        unanswered(activity.getString(R.string.cannot_load, why));
    }

    /** Another picture stands there now: no older answer must stand beside it. Bars stay, for they move to the next. */
    void pending() {
        prediction.setText(R.string.asked);
        verdict.setText("");
        exitTaken.setText("");
    }

    /** There is no answer, and why. */
    void unanswered(String why) {
        message(why);
        prediction.setText("");
        verdict.setText("");
        exitTaken.setText("");
        savesText.setText("");
        stages.show(new ArrayList<StageBarsView.Row>());
        saves.show(0, 0, "");
    }

    /** What the network sees. */
    void picture(Bitmap bitmap, String title) {
        BitmapDrawable drawable = new BitmapDrawable(activity.getResources(), bitmap);
        drawable.setFilterBitmap(false); // its pixels are what counts
        preview.setImageDrawable(drawable);
        preview.setContentDescription(activity.getString(R.string.preview, title));
    }

    /**
     * Shows an answer.
     *
     * @param label true class; -1 if it is not known
     */
    void show(Engine.Answer answer, Manifest manifest, double[] thresholds, int label) {
        Prediction found = answer.comparison.cascade;
        prediction.setText(activity.getString(R.string.prediction, found.label));
        String sure = activity.getString(R.string.confidence, 100 * found.confidence());
        verdict.setText(label < 0 ? sure : sure + " · " + (label == found.prediction
                ? activity.getString(R.string.right)
                : activity.getString(R.string.wrong, manifest.labels.get(label))));
        exitTaken.setText(activity.getString(found.byDeadline ? R.string.left_by_deadline : R.string.left_at,
                manifest.exitNames.get(found.exit), found.exit + 1, manifest.exits()));
        List<StageBarsView.Row> rows = new ArrayList<>();
        for (int exit = 0; exit < manifest.exits(); exit++) {
            rows.add(row(answer, manifest, thresholds, exit));
        }
        stages.show(rows);
        showSavings(answer, manifest);
    }

    private StageBarsView.Row row(Engine.Answer answer, Manifest manifest, double[] thresholds, int exit) {
        Prediction found = answer.comparison.cascade;
        String name = manifest.exitNames.get(exit);
        if (exit > found.exit) {
            long nanos = answer.typicalNanos[exit];
            String text = activity.getString(R.string.stage_saved, name, milliseconds(nanos));
            return new StageBarsView.Row(StageBarsView.State.SAVED, text, "", nanos, Double.NaN);
        }
        long nanos = found.stageNanos()[exit];
        boolean last = exit == manifest.exits() - 1;
        String score = ThresholdSliders.text(found.score(exit));
        String detail = last ? activity.getString(R.string.score_last, score)
                : activity.getString(R.string.score_against, score, ThresholdSliders.text(thresholds[exit]));
        boolean comparable = !last && thresholds[exit] > 0;
        double ratio = comparable ? Math.max(0, found.score(exit)) / thresholds[exit] : Double.NaN;
        boolean left = exit == found.exit;
        String text = activity.getString(left ? R.string.stage_left : R.string.stage_ran, name, milliseconds(nanos));
        return new StageBarsView.Row(left ? StageBarsView.State.LEFT : StageBarsView.State.RAN, text, detail, nanos,
                ratio);
    }

    private void showSavings(Engine.Answer answer, Manifest manifest) {
        Prediction found = answer.comparison.cascade;
        long unsplit = answer.comparison.unsplitNanos;
        double saved = 1 - (double) found.nanos / unsplit;
        double[] macs = manifest.executedMacs();
        String time = saved >= 0 ? activity.getString(R.string.saves_time, 100 * saved)
                : activity.getString(R.string.costs_time, -100 * saved);
        String text = activity.getString(R.string.saves_text, found.nanos / 1e6, unsplit / 1e6, time,
                100 * (1 - macs[found.exit] / macs[macs.length - 1]));
        text += " " + activity.getString(R.string.unsplit_says,
                manifest.labels.get(answer.comparison.unsplitPrediction));
        savesText.setText(text);
        saves.show(found.nanos, unsplit, text);
    }

    private String milliseconds(long nanos) {
        return activity.getString(R.string.milliseconds, nanos / 1e6);
    }
}
