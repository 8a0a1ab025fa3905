package org.rditf.demo;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.app.Activity;
import android.content.Intent;
import android.graphics.Bitmap;
import android.graphics.Color;
import android.view.MotionEvent;
import android.view.View;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;

/** A digit drawn with the finger, classified for real. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 33, application = TestApp.class, qualifiers = "w400dp-h640dp-hdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
public class DrawActivityTest {
    /** A seven, in shares of the view. */
    private static final float[][] SEVEN = {{0.3f, 0.25f}, {0.7f, 0.25f}, {0.62f, 0.45f}, {0.5f, 0.8f}};

    private static void stroke(View view, float[][] corners) {
        float width = view.getWidth();
        float height = view.getHeight();
        touch(view, MotionEvent.ACTION_DOWN, corners[0][0] * width, corners[0][1] * height);
        for (float[] corner : corners) {
            touch(view, MotionEvent.ACTION_MOVE, corner[0] * width, corner[1] * height);
        }
        float[] last = corners[corners.length - 1];
        touch(view, MotionEvent.ACTION_UP, last[0] * width, last[1] * height);
    }

    private static void touch(View view, int action, float x, float y) {
        MotionEvent event = MotionEvent.obtain(0, 0, action, x, y, 0);
        view.dispatchTouchEvent(event);
        event.recycle();
    }

    @Test
    public void aDrawnSevenIsASeven() throws Exception {
        ActivityController<DrawActivity> controller = Robolectric.buildActivity(DrawActivity.class).setup();
        Screen drawing = new Screen(controller.get());
        DrawView view = drawing.activity.findViewById(R.id.drawing);
        stroke(view, SEVEN);
        float[] points = view.points();
        drawing.draw("draw");
        controller.recreate();
        drawing = new Screen(controller.get());
        assertArrayEquals(points, ((DrawView) drawing.activity.findViewById(R.id.drawing)).points(), 0);
        drawing.click(R.id.use);
        assertEquals(Activity.RESULT_OK, shadowOf(drawing.activity).getResultCode());
        Intent result = shadowOf(drawing.activity).getResultIntent();

        Screen main = new Screen(Robolectric.buildActivity(MainActivity.class).setup().get());
        main.click(R.id.draw);
        shadowOf(main.activity).receiveResult(new Intent(main.activity, DrawActivity.class), Activity.RESULT_OK, result);
        Screen.idle();
        assertEquals("Your drawing", main.text(R.id.title));
        assertEquals("Class 7", main.text(R.id.prediction));
        main.draw("drawn");
    }

    @Test
    public void theDrawingIsCentredWithMargins() {
        Screen drawing = new Screen(Robolectric.buildActivity(DrawActivity.class).setup().get());
        DrawView view = drawing.activity.findViewById(R.id.drawing);
        stroke(view, new float[][] {{0.1f, 0.1f}, {0.1f, 0.3f}});
        Bitmap bitmap = view.drawing();
        int middle = bitmap.getWidth() / 2;
        assertEquals(Color.WHITE, bitmap.getPixel(middle, middle));
        assertEquals(Color.BLACK, bitmap.getPixel(middle, 4));
        assertEquals(Color.BLACK, bitmap.getPixel(4, middle));
        drawing.click(R.id.clear);
        assertTrue(view.drawing() == null);
        drawing.click(R.id.use);
        assertEquals(Activity.RESULT_CANCELED, shadowOf(drawing.activity).getResultCode());
    }
}
