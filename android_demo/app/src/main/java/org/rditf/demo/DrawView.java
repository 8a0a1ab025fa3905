package org.rditf.demo;

import android.content.Context;
import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.graphics.Color;
import android.graphics.Paint;
import android.graphics.Path;
import android.graphics.RectF;
import android.util.AttributeSet;
import android.view.MotionEvent;
import android.view.View;
import java.util.Arrays;

/** Draws with a finger, white on black. Strokes are kept in shares of the view, so that they survive rotation. */
public final class DrawView extends View {
    /** Ends a stroke in the list of points. */
    private static final float PEN_UP = -1f;
    private static final int DRAWING_PIXELS = 128;
    /** Digits of MNIST fill 20 of 28 pixels. */
    private static final float SURROUND = 28f / 20;
    /** As thick as MNIST's, about 3 of 20 pixels. */
    private static final float PEN = 0.15f;

    private final Paint pen = new Paint(Paint.ANTI_ALIAS_FLAG);
    private float[] points = new float[0];
    private float side;

    public DrawView(Context context, AttributeSet attributes) {
        super(context, attributes);
        pen.setStyle(Paint.Style.STROKE);
        pen.setStrokeCap(Paint.Cap.ROUND);
        pen.setStrokeJoin(Paint.Join.ROUND);
        pen.setColor(Color.WHITE);
    }

    float[] points() {
        return points.clone();
    }

    void setPoints(float[] kept) {
        points = kept == null ? new float[0] : kept.clone();
        invalidate();
    }

    /** The drawing as a small square with MNIST's margins; null if there is none. */
    Bitmap drawing() {
        RectF box = box();
        if (box == null) {
            return null;
        }
        float square = Math.max(Math.max(box.width(), box.height()), 0.05f) * SURROUND;
        float scale = DRAWING_PIXELS / square;
        Bitmap bitmap = Bitmap.createBitmap(DRAWING_PIXELS, DRAWING_PIXELS, Bitmap.Config.ARGB_8888);
        Canvas canvas = new Canvas(bitmap);
        canvas.drawColor(Color.BLACK);
        pen.setStrokeWidth(DRAWING_PIXELS / SURROUND * PEN);
        canvas.drawPath(path(scale, DRAWING_PIXELS / 2f - box.centerX() * scale,
                DRAWING_PIXELS / 2f - box.centerY() * scale), pen);
        return bitmap;
    }

    @Override
    protected void onSizeChanged(int width, int height, int oldWidth, int oldHeight) {
        side = Math.min(width, height);
    }

    @Override
    protected void onDraw(Canvas canvas) {
        canvas.drawColor(Color.BLACK);
        pen.setStrokeWidth(side / SURROUND * PEN * 0.8f);
        canvas.drawPath(path(side, (getWidth() - side) / 2, (getHeight() - side) / 2), pen);
    }

    @Override
    public boolean onTouchEvent(MotionEvent event) {
        switch (event.getActionMasked()) {
            case MotionEvent.ACTION_DOWN:
                getParent().requestDisallowInterceptTouchEvent(true);
                add(event.getX(), event.getY());
                return true;
            case MotionEvent.ACTION_MOVE:
                for (int index = 0; index < event.getHistorySize(); index++) {
                    add(event.getHistoricalX(index), event.getHistoricalY(index));
                }
                add(event.getX(), event.getY());
                return true;
            case MotionEvent.ACTION_UP:
                performClick();
                append(PEN_UP, PEN_UP);
                return true;
            case MotionEvent.ACTION_CANCEL:
                append(PEN_UP, PEN_UP);
                return true;
            default:
                return false;
        }
    }

    @Override
    public boolean performClick() {
        return super.performClick();
    }

    private void add(float x, float y) {
        float inX = (x - (getWidth() - side) / 2) / side;
        float inY = (y - (getHeight() - side) / 2) / side;
        append(Math.max(0, inX), Math.max(0, inY));
        invalidate();
    }

    private void append(float x, float y) {
        points = Arrays.copyOf(points, points.length + 2);
        points[points.length - 2] = x;
        points[points.length - 1] = y;
    }

    private RectF box() {
        RectF box = null;
        for (int index = 0; index < points.length; index += 2) {
            if (points[index] == PEN_UP) {
                continue;
            }
            if (box == null) {
                box = new RectF(points[index], points[index + 1], points[index], points[index + 1]);
            }
            box.union(points[index], points[index + 1]);
        }
        return box;
    }

    private Path path(float scale, float left, float top) {
        Path path = new Path();
        boolean down = false;
        for (int index = 0; index < points.length; index += 2) {
            if (points[index] == PEN_UP) {
                down = false;
                continue;
            }
            float x = left + points[index] * scale;
            float y = top + points[index + 1] * scale;
            if (!down) {
                path.moveTo(x, y);
            }
            path.lineTo(x, y);
            down = true;
        }
        return path;
    }
}
