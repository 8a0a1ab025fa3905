package org.rditf.demo;

import android.app.Activity;
import android.content.Intent;
import android.os.Bundle;
import android.view.View;

/** Draws a digit; its result is a small bitmap. */
public final class DrawActivity extends Activity {
    static final String DRAWING = "drawing";
    private static final String POINTS = "points";

    private DrawView view;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.activity_draw);
        view = findViewById(R.id.drawing);
        if (state != null) {
            view.setPoints(state.getFloatArray(POINTS));
        }
        findViewById(R.id.clear).setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View clicked) {
                view.setPoints(null);
            }
        });
        findViewById(R.id.use).setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View clicked) {
                use();
            }
        });
    }

    @Override
    protected void onSaveInstanceState(Bundle state) {
        super.onSaveInstanceState(state);
        state.putFloatArray(POINTS, view.points());
    }

    private void use() {
        if (view.drawing() != null) {
            setResult(RESULT_OK, new Intent().putExtra(DRAWING, view.drawing()));
        }
        finish();
    }
}
