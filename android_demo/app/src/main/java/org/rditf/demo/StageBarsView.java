package org.rditf.demo;

import android.content.Context;
import android.graphics.Canvas;
import android.graphics.Paint;
import android.util.AttributeSet;
import android.view.View;
import java.util.ArrayList;
import java.util.List;

/**
 * Time per stage as bars: stages that ran, the one where the image left, and, greyed, those that were saved. Below each
 * bar its score: left of the mark is below the threshold.
 */
public final class StageBarsView extends View {
    enum State {
        RAN(R.color.ran),
        LEFT(R.color.left),
        SAVED(R.color.saved);

        private final int colour;

        State(int colour) {
            this.colour = colour;
        }
    }

    /** One stage. */
    static final class Row {
        final State state;
        final String text;
        final String detail;
        final long nanos;
        /** Score over threshold; NaN where there is nothing to compare. */
        final double scoreOverThreshold;

        Row(State state, String text, String detail, long nanos, double scoreOverThreshold) {
            this.state = state;
            this.text = text;
            this.detail = detail;
            this.nanos = nanos;
            this.scoreOverThreshold = scoreOverThreshold;
        }
    }

    private final List<Row> rows = new ArrayList<>();
    private final Paints paints;
    private final Paint text;
    private final Paint detail;
    private final Paint mark;

    public StageBarsView(Context context, AttributeSet attributes) {
        super(context, attributes);
        paints = new Paints(context);
        text = paints.text(14, android.R.attr.textColorPrimary);
        detail = paints.text(12, android.R.attr.textColorSecondary);
        mark = paints.text(12, android.R.attr.textColorPrimary);
        mark.setStrokeWidth(paints.dp(2));
    }

    void show(List<Row> shown) {
        rows.clear();
        rows.addAll(shown);
        StringBuilder description = new StringBuilder();
        for (Row row : rows) {
            description.append(row.text).append(". ").append(row.detail).append(row.detail.isEmpty() ? "" : ". ");
        }
        setContentDescription(description.toString().trim());
        requestLayout();
        invalidate();
    }

    List<Row> rows() {
        return rows;
    }

    private float rowHeight() {
        return Paints.line(text) + paints.dp(16) + Paints.line(detail) + paints.dp(16);
    }

    @Override
    protected void onMeasure(int widthSpec, int heightSpec) {
        int height = (int) Math.ceil(rows.size() * rowHeight());
        setMeasuredDimension(getDefaultSize(getSuggestedMinimumWidth(), widthSpec), resolveSize(height, heightSpec));
    }

    @Override
    protected void onDraw(Canvas canvas) {
        long longest = 1;
        for (Row row : rows) {
            longest = Math.max(longest, row.nanos);
        }
        float top = 0;
        for (Row row : rows) {
            draw(canvas, row, top, (float) row.nanos / longest);
            top += rowHeight();
        }
    }

    private void draw(Canvas canvas, Row row, float top, float share) {
        float bar = top + Paints.line(text) + paints.dp(2);
        float barEnd = bar + paints.dp(14);
        drawFitting(canvas, row.text, top - text.ascent(), text);
        float length = Math.max(paints.dp(2), share * getWidth());
        canvas.drawRoundRect(0, bar, length, barEnd, paints.dp(3), paints.dp(3), paints.fill(row.state.colour));
        float baseline = barEnd + paints.dp(2) - detail.ascent();
        drawFitting(canvas, row.detail, baseline, detail);
        if (!Double.isNaN(row.scoreOverThreshold)) {
            drawScore(canvas, row, barEnd + paints.dp(2) + Paints.line(detail) / 2);
        }
    }

    /** Large fonts are narrowed rather than cut off. */
    private void drawFitting(Canvas canvas, String line, float baseline, Paint paint) {
        paint.setTextScaleX(1);
        float width = paint.measureText(line);
        paint.setTextScaleX(width > getWidth() ? getWidth() / width : 1);
        canvas.drawText(line, 0, baseline, paint);
    }

    /** A gauge at the right: the threshold in its middle, the score a dot. */
    private void drawScore(Canvas canvas, Row row, float middle) {
        float width = Math.min(getWidth() * 0.3f, paints.dp(120));
        float right = getWidth() - paints.dp(6);
        float left = right - width;
        if (detail.measureText(row.detail) + paints.dp(12) > left) {
            return; // large fonts: the text says the same
        }
        float half = paints.dp(2);
        canvas.drawRoundRect(left, middle - half, right, middle + half, half, half, paints.fill(R.color.saved));
        canvas.drawLine(left + width / 2, middle - paints.dp(6), left + width / 2, middle + paints.dp(6), mark);
        float place = left + width * (float) Math.max(0, Math.min(1, row.scoreOverThreshold / 2));
        canvas.drawCircle(place, middle, paints.dp(5), paints.fill(row.state.colour));
    }
}
