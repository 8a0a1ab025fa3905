package org.rditf.demo;

import android.content.Context;
import android.content.res.TypedArray;
import android.graphics.Paint;
import android.util.TypedValue;

/** What the views that draw themselves draw with: the theme's colours, texts that follow the user's font size. */
final class Paints {
    private final Context context;

    Paints(Context context) {
        this.context = context;
    }

    float dp(float size) {
        return TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_DIP, size, context.getResources().getDisplayMetrics());
    }

    Paint fill(int colour) {
        Paint paint = new Paint(Paint.ANTI_ALIAS_FLAG);
        paint.setColor(context.getColor(colour));
        return paint;
    }

    Paint text(float sp, int attribute) {
        Paint paint = new Paint(Paint.ANTI_ALIAS_FLAG);
        TypedArray values = context.obtainStyledAttributes(new int[] {attribute});
        paint.setColor(values.getColor(0, 0));
        values.recycle();
        paint.setTextSize(TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, sp,
                context.getResources().getDisplayMetrics()));
        return paint;
    }

    /** Height of a line of text. */
    static float line(Paint text) {
        return text.descent() - text.ascent();
    }
}
