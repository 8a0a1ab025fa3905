package org.rditf.demo;

import static org.robolectric.Shadows.shadowOf;

import android.app.Activity;
import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.os.Looper;
import android.view.View;
import android.widget.SeekBar;
import android.widget.Spinner;
import android.widget.TextView;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import org.rditf.core.TestFiles;

/** What a person does with a screen. */
final class Screen {
    final Activity activity;

    Screen(Activity activity) {
        this.activity = activity;
        idle();
    }

    static void idle() {
        shadowOf(Looper.getMainLooper()).idle();
    }

    String text(int id) {
        return ((TextView) activity.findViewById(id)).getText().toString();
    }

    void click(int id) {
        activity.findViewById(id).performClick();
        idle();
    }

    void choose(int spinner, int index) {
        ((Spinner) activity.findViewById(spinner)).setSelection(index);
        idle();
    }

    void slide(SeekBar bar, int progress) {
        bar.setProgress(progress);
        idle();
    }

    SeekBar threshold(String exit) {
        return activity.findViewById(R.id.thresholds).findViewWithTag(exit);
    }

    StageBarsView.State[] stages() {
        StageBarsView view = activity.findViewById(R.id.stages);
        StageBarsView.State[] states = new StageBarsView.State[view.rows().size()];
        for (int row = 0; row < states.length; row++) {
            states[row] = view.rows().get(row).state;
        }
        return states;
    }

    /** Draws the whole window into target/screenshots. */
    Bitmap draw(String name) throws IOException {
        View root = activity.getWindow().getDecorView();
        Bitmap bitmap = Bitmap.createBitmap(root.getWidth(), root.getHeight(), Bitmap.Config.ARGB_8888);
        root.draw(new Canvas(bitmap));
        File folder = new File(TestFiles.output(), "screenshots");
        folder.mkdirs();
        try (FileOutputStream stream = new FileOutputStream(new File(folder, name + ".png"))) {
            bitmap.compress(Bitmap.CompressFormat.PNG, 100, stream);
        }
        return bitmap;
    }
}
