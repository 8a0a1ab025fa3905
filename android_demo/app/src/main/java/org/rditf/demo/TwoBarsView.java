package org.rditf.demo;

import android.content.Context;
import android.graphics.Canvas;
import android.graphics.Paint;
import android.util.AttributeSet;
import android.view.View;

/** The cascade's time above the unsplit network's. */
public final class TwoBarsView extends View {
    private final Paints paints;
    private final Paint cascadeFill;
    private final Paint unsplitFill;
    private long cascade;
    private long unsplit;

    public TwoBarsView(Context context, AttributeSet attributes) {
        super(context, attributes);
        paints = new Paints(context);
        cascadeFill = paints.fill(R.color.left);
        unsplitFill = paints.fill(R.color.unsplit);
    }

    void show(long cascadeNanos, long unsplitNanos, CharSequence description) {
        cascade = cascadeNanos;
        unsplit = unsplitNanos;
        setContentDescription(description);
        invalidate();
    }

    @Override
    protected void onMeasure(int widthSpec, int heightSpec) {
        setMeasuredDimension(getDefaultSize(getSuggestedMinimumWidth(), widthSpec),
                resolveSize((int) paints.dp(36), heightSpec));
    }

    @Override
    protected void onDraw(Canvas canvas) {
        float longest = Math.max(1, Math.max(cascade, unsplit));
        bar(canvas, paints.dp(2), cascade / longest, cascadeFill);
        bar(canvas, paints.dp(20), unsplit / longest, unsplitFill);
    }

    private void bar(Canvas canvas, float top, float share, Paint fill) {
        canvas.drawRoundRect(0, top, share * getWidth(), top + paints.dp(14), paints.dp(3), paints.dp(3), fill);
    }
}
