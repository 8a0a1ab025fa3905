package org.rditf.demo;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.app.Activity;
import android.content.Intent;
import android.content.res.Configuration;
import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.graphics.Color;
import android.graphics.Paint;
import android.net.Uri;
import android.os.Bundle;
import android.view.View;
import android.widget.CheckBox;
import android.widget.SeekBar;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.util.Base64;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.rditf.core.Npz;
import org.rditf.core.Preprocessing;
import org.rditf.core.TestFiles;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;

/** The main screen, run on the JVM with real inference. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 33, application = TestApp.class, qualifiers = "w400dp-h1120dp-hdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
public class MainActivityTest {
    private static final int SAMPLES = 200;

    private ActivityController<MainActivity> controller;
    private Screen screen;
    private int[] exits;
    private int[] predictions;
    /** How often another app's picture was opened. */
    private int opened;
    private Throwable failure;

    @Before
    public void start() throws Exception {
        Npz python = TestFiles.reference("int8");
        exits = python.get("exits").ints();
        predictions = python.get("predictions").ints();
        controller = Robolectric.buildActivity(MainActivity.class).setup();
        screen = new Screen(controller.get());
    }

    private void assertAsPython(int row) {
        assertEquals(screen.text(R.id.message), "Class " + predictions[row], screen.text(R.id.prediction));
        assertTrue(screen.text(R.id.exit_taken), screen.text(R.id.exit_taken).endsWith("exit " + (exits[row] + 1)
                + " of 3"));
        StageBarsView.State[] expected = new StageBarsView.State[3];
        for (int exit = 0; exit < 3; exit++) {
            expected[exit] = exit < exits[row] ? StageBarsView.State.RAN
                    : exit == exits[row] ? StageBarsView.State.LEFT : StageBarsView.State.SAVED;
        }
        assertArrayEquals(expected, screen.stages());
    }

    @Test
    public void showsWhatPythonSaysOfTheSamples() throws Exception {
        assertAsPython(0);
        screen.draw("main");
        screen.click(R.id.next);
        assertAsPython(1);
        screen.click(R.id.previous);
        screen.click(R.id.previous);
        assertAsPython(SAMPLES - 1);
        screen.choose(R.id.version, 1);
        assertAsPython(2 * SAMPLES - 1);
        screen.choose(R.id.version, 2);
        assertAsPython(3 * SAMPLES - 1);
        assertTrue(screen.text(R.id.title), screen.text(R.id.title).startsWith("Sample 200 of 200, true class "));
    }

    @Test
    public void slidersMoveTheExit() {
        SeekBar first = screen.threshold("branch_1");
        SeekBar second = screen.threshold("branch_2");
        screen.slide(first, 0);
        screen.slide(second, 0);
        assertEquals("Left at main, exit 3 of 3", screen.text(R.id.exit_taken));
        assertEquals("Thresholds, branch_1: nothing leaves", first.getContentDescription());
        screen.slide(second, second.getMax());
        assertEquals("Left at branch_2, exit 2 of 3", screen.text(R.id.exit_taken));
        screen.slide(first, first.getMax());
        assertEquals("Left at branch_1, exit 1 of 3", screen.text(R.id.exit_taken));
        assertTrue(screen.text(R.id.saves_text), screen.text(R.id.saves_text).contains("90.9 % saved"));
        screen.click(R.id.reset);
        assertAsPython(0);
        assertNotEquals(first.getMax(), screen.threshold("branch_1").getProgress());
    }

    @Test
    public void aDeadlineEndsTheCascade() {
        screen.slide(screen.threshold("branch_1"), 0);
        screen.slide(screen.threshold("branch_2"), 0);
        screen.slide((SeekBar) screen.activity.findViewById(R.id.deadline), 0);
        assertEquals("Deadline: answered at branch_1, exit 1 of 3", screen.text(R.id.exit_taken));
        assertEquals("Deadline: 0.01 ms", screen.text(R.id.deadline_text));
    }

    @Test
    public void networkThreadsAndDelegateAreChosen() throws Exception {
        TestApp app = (TestApp) screen.activity.getApplication();
        screen.choose(R.id.threads, 2);
        screen.choose(R.id.delegate, 1);
        assertEquals(4, app.threads);
        assertEquals(Delegate.CPU, app.delegate);
        screen.choose(R.id.bundle, 1);
        Npz python = TestFiles.reference("float32");
        exits = python.get("exits").ints();
        predictions = python.get("predictions").ints();
        assertAsPython(0);
    }

    @Test
    public void photographsForNetworksInColourAreNotInverted() throws Exception {
        Choice choice = new Choice();
        assertTrue(choice.inverts(new Preprocessing(28, 28, 1, 255, "bilinear")));
        assertFalse(choice.inverts(new Preprocessing(32, 32, 3, 255, "bilinear")));
        choice.drawn = true;
        assertFalse(choice.inverts(new Preprocessing(28, 28, 1, 255, "bilinear")));
    }

    @Test
    public void rotationKeepsEverything() throws Exception {
        screen.choose(R.id.version, 2);
        screen.click(R.id.next);
        screen.slide(screen.threshold("branch_1"), 700);
        screen.slide((SeekBar) screen.activity.findViewById(R.id.deadline), 95);
        screen.click(R.id.invert);
        String exit = screen.text(R.id.exit_taken);
        RuntimeEnvironment.setQualifiers("+w1120dp-h520dp-land");
        controller.recreate();
        screen = new Screen(controller.get());
        assertNotNull(screen.activity.findViewById(R.id.scroll_result));
        assertTrue(screen.text(R.id.title).startsWith("Sample 2 of 200"));
        assertEquals(700, screen.threshold("branch_1").getProgress());
        assertEquals(95, ((SeekBar) screen.activity.findViewById(R.id.deadline)).getProgress());
        assertEquals(exit, screen.text(R.id.exit_taken));
        assertEquals(false, ((CheckBox) screen.activity.findViewById(R.id.invert)).isChecked());
        screen.draw("landscape");
    }

    @Test
    public void darkMode() throws Exception {
        RuntimeEnvironment.setQualifiers("+night");
        controller.recreate();
        screen = new Screen(controller.get());
        screen.choose(R.id.version, 2);
        int hard = 0;
        while (exits[2 * SAMPLES + hard] < 2) {
            screen.click(R.id.next);
            hard++;
        }
        assertAsPython(2 * SAMPLES + hard);
        Bitmap drawn = screen.draw("dark_slowdown");
        assertTrue("dark", Color.luminance(drawn.getPixel(drawn.getWidth() - 3, drawn.getHeight() - 3)) < 0.1);
    }

    @Test
    public void aLargePictureIsReadSmall() throws Exception {
        assertEquals(1, Pictures.sampleSize(2000, 900));
        assertEquals(8, Pictures.sampleSize(900, 12000));
        Uri uri = provide(pictureOfAOne(4100, 4100));
        Bitmap read = Pictures.read(screen.activity.getContentResolver(), uri);
        assertEquals(1025, read.getWidth());
        assertEquals(1, opened);
        screen.click(R.id.pick);
        receive(MainActivity.PICK, new Intent().setData(uri));
        assertEquals("Your picture", screen.text(R.id.title));
        assertEquals("Class 1", screen.text(R.id.prediction));
        controller.recreate();
        screen = new Screen(controller.get());
        assertEquals("Class 1", screen.text(R.id.prediction));
    }

    @Test
    public void aFileThatIsNoPictureGivesAMessage() {
        Uri uri = Uri.parse("content://pictures/none");
        shadowOf(screen.activity.getContentResolver()).registerInputStream(uri,
                new ByteArrayInputStream(new byte[] {1, 2, 3}));
        screen.click(R.id.pick);
        receive(MainActivity.PICK, new Intent().setData(uri));
        assertEquals("This picture cannot be read.", screen.text(R.id.message));
        assertEquals(View.VISIBLE, screen.activity.findViewById(R.id.message).getVisibility());
        assertAsPython(0);
    }

    @Test
    public void transparencyIsDroppedAsByPython() throws Exception {
        // Of Pillow: a black stroke on white that is transparent altogether.
        Uri uri = provide(Base64.getDecoder().decode(
                "iVBORw0KGgoAAAANSUhEUgAAADgAAAA4CAYAAACohjseAAAAYUlEQVR42u3asQ0AMQgEQZ/1/bd8LsD5B3i2ATQiISBt1+T2"
                        + "Gh4gICAgIODLwO+vQUmuk6ltbBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEHBG8U4JCAgICAg4twPQNwpru6qdnwAA"
                        + "AABJRU5ErkJggg=="));
        Bitmap read = Pictures.read(screen.activity.getContentResolver(), uri);
        assertEquals(0xffffff, read.getPixel(0, 0) & 0xffffff);
        assertEquals(0, read.getPixel(28, 28) & 0xffffff);
        screen.click(R.id.pick);
        receive(MainActivity.PICK, new Intent().setData(uri));
        assertEquals("Class 1", screen.text(R.id.prediction));
    }

    @Test
    public void whateverAProviderThrowsTheAppLivesOn() {
        for (Throwable thrown : new Throwable[] {new SecurityException("not yours"), new IllegalStateException("?"),
            new OutOfMemoryError("far too large")}) {
            failure = thrown;
            screen.click(R.id.pick);
            receive(MainActivity.PICK, new Intent().setData(provide(new byte[0])));
            assertEquals("This picture cannot be read.", screen.text(R.id.message));
            assertTrue(screen.text(R.id.title).startsWith("Sample 1 of 200"));
        }
    }

    @Test
    public void aPictureThatTakesLongHoldsNothingUp() {
        TestApp.OnTheSpot reading = ((TestApp) screen.activity.getApplication()).reading;
        Uri one = provide(pictureOfAOne(160, 160));
        reading.waits = true;
        screen.click(R.id.pick);
        receive(MainActivity.PICK, new Intent().setData(one));
        assertEquals(0, opened);
        assertEquals("Reading the picture…", screen.text(R.id.message));
        // Of the sample; the picture still comes.
        screen.slide((SeekBar) screen.activity.findViewById(R.id.deadline), 95);
        assertAsPython(0);
        reading.goOn();
        assertEquals("Your picture", screen.text(R.id.title));
        assertEquals("Class 1", screen.text(R.id.prediction));
        assertEquals("", screen.text(R.id.message));
    }

    @Test
    public void aPictureThatComesTooLateIsNotShown() {
        TestApp.OnTheSpot reading = ((TestApp) screen.activity.getApplication()).reading;
        Uri one = provide(pictureOfAOne(160, 160));
        reading.waits = true;
        screen.click(R.id.pick);
        receive(MainActivity.PICK, new Intent().setData(one));
        screen.click(R.id.next);
        assertEquals("", screen.text(R.id.message));
        reading.goOn();
        assertEquals(0, opened);
        assertAsPython(1);
        // Read already, and on its way to the screen when something else is asked for.
        screen.activity.findViewById(R.id.pick).performClick();
        deliver(new Intent().setData(one));
        assertEquals(1, opened);
        screen.click(R.id.next);
        assertTrue(screen.text(R.id.title), screen.text(R.id.title).startsWith("Sample 3 of 200"));
        assertAsPython(2);
    }

    @Test
    public void rotationKeepsThePictureThatIsBeingRead() {
        TestApp.OnTheSpot reading = ((TestApp) screen.activity.getApplication()).reading;
        Uri one = provide(pictureOfAOne(160, 160));
        reading.waits = true;
        screen.click(R.id.pick);
        receive(MainActivity.PICK, new Intent().setData(one));
        controller.recreate();
        screen = new Screen(controller.get());
        reading.goOn();
        assertEquals("once, for the screen that is there", 1, opened);
        assertEquals("Your picture", screen.text(R.id.title));
        assertEquals("Class 1", screen.text(R.id.prediction));
    }

    @Test
    public void whatIsBeingReadIsReadInTheNextNetworksSize() {
        TestApp.OnTheSpot reading = ((TestApp) screen.activity.getApplication()).reading;
        Uri one = provide(pictureOfAOne(160, 160));
        reading.waits = true;
        screen.click(R.id.pick);
        receive(MainActivity.PICK, new Intent().setData(one));
        screen.choose(R.id.bundle, 1);
        assertEquals("Reading the picture…", screen.text(R.id.message));
        reading.goOn();
        assertEquals(1, opened);
        assertEquals("Your picture", screen.text(R.id.title));
    }

    @Test
    public void aPickedPictureWaitsForTheNetworkToo() {
        MainActivity early = Robolectric.buildActivity(MainActivity.class).create().start().resume().get();
        early.findViewById(R.id.pick).performClick();
        shadowOf(early).receiveResult(shadowOf(early).peekNextStartedActivityForResult().intent, Activity.RESULT_OK,
                new Intent().setData(provide(pictureOfAOne(160, 160))));
        assertEquals(0, opened);
        screen = new Screen(early);
        assertEquals("Your picture", screen.text(R.id.title));
        assertEquals("Class 1", screen.text(R.id.prediction));
        assertEquals("", screen.text(R.id.message));
    }

    @Test
    public void aPictureThatComesBeforeTheNetworkWaitsForIt() {
        MainActivity early = Robolectric.buildActivity(MainActivity.class).create().start().resume().get();
        early.findViewById(R.id.camera).performClick();
        shadowOf(early).receiveResult(shadowOf(early).peekNextStartedActivityForResult().intent, Activity.RESULT_OK,
                new Intent().putExtra("data", drawOne(160, 160)));
        screen = new Screen(early);
        assertEquals("Your picture", screen.text(R.id.title));
        assertEquals("Class 1", screen.text(R.id.prediction));
        assertEquals("", screen.text(R.id.message));
    }

    @Test
    public void noOlderAnswerStandsBesideANewPicture() {
        TestApp app = (TestApp) screen.activity.getApplication();
        app.inference.waits = true; // as while a benchmark runs on the same thread
        screen.click(R.id.next);
        assertTrue(screen.text(R.id.title).startsWith("Sample 2 of 200"));
        assertEquals("…", screen.text(R.id.prediction));
        assertEquals("", screen.text(R.id.verdict));
        app.inference.goOn();
        assertAsPython(1);
        app.inference.waits = true;
        screen.slide((SeekBar) screen.activity.findViewById(R.id.deadline), 95); // the picture is the same: no flicker
        assertAsPython(1);
        app.inference.goOn();
    }

    @Test
    public void onlyTheNewestQuestionIsComputed() {
        TestApp app = (TestApp) screen.activity.getApplication();
        int before = app.unsplitRuns;
        screen.click(R.id.next);
        int forOne = app.unsplitRuns - before;
        assertTrue(forOne > 0);
        app.inference.waits = true;
        screen.slide(screen.threshold("branch_1"), 300);
        screen.slide(screen.threshold("branch_1"), 0);
        screen.click(R.id.next);
        screen.click(R.id.reset);
        screen.click(R.id.next);
        app.inference.goOn();
        assertEquals(before + 2 * forOne, app.unsplitRuns);
        assertAsPython(3);
        assertEquals("", screen.text(R.id.message));
    }

    @Test
    public void onlyTheNewestNetworkIsLoaded() {
        TestApp app = (TestApp) screen.activity.getApplication();
        app.inference.waits = true;
        screen.choose(R.id.threads, 2);
        screen.choose(R.id.bundle, 1);
        controller.recreate();
        screen = new Screen(controller.get());
        int before = app.unsplitRuns;
        app.inference.goOn();
        // The golden vectors of one network, and one question.
        assertEquals(before + 16 + 5, app.unsplitRuns);
        assertEquals(4, app.threads);
        assertEquals("", screen.text(R.id.message));
    }

    @Test
    public void theBenchmarkIsMadeAsChosen() {
        screen.choose(R.id.threads, 1);
        screen.choose(R.id.delegate, 1);
        screen.click(R.id.benchmark);
        Intent started = shadowOf(screen.activity).getNextStartedActivity();
        assertEquals(2, started.getIntExtra(BenchmarkActivity.THREADS, 0));
        assertEquals("cpu", started.getStringExtra(BenchmarkActivity.DELEGATE));
    }

    @Test
    public void theCamerasPictureIsTaken() {
        screen.click(R.id.camera);
        Intent asked = shadowOf(screen.activity).peekNextStartedActivityForResult().intent;
        assertEquals("android.media.action.IMAGE_CAPTURE", asked.getAction());
        receive(MainActivity.CAMERA, new Intent().putExtra("data", drawOne(160, 160)));
        assertEquals("Class 1", screen.text(R.id.prediction));
    }

    @Test
    public void aBrokenBundleGivesAMessage() throws Exception {
        ((TestApp) screen.activity.getApplication()).failure = "stage_1.tflite: no such thing";
        screen.choose(R.id.bundle, 1);
        assertEquals("This bundle cannot be used: stage_1.tflite: no such thing", screen.text(R.id.message));
        assertEquals("", screen.text(R.id.prediction));
        assertEquals(0, screen.stages().length);
        screen.click(R.id.next);
        screen.click(R.id.reset);
        ((TestApp) screen.activity.getApplication()).failure = null;
        screen.choose(R.id.bundle, 0);
        assertEquals(View.GONE, screen.activity.findViewById(R.id.message).getVisibility());
        assertAsPython(0);
    }

    @Test
    public void anUnsplitNetworkThatSaysSomethingElseIsNotComparedWith() {
        ((TestApp) screen.activity.getApplication()).brokenUnsplit = true;
        screen.choose(R.id.bundle, 1);
        String message = screen.text(R.id.message);
        assertTrue(message, message.startsWith("This bundle cannot be used: does not hold on this machine: unsplit "
                + "network: 16 images: logits differ from the stages' by at most "));
    }

    @Test
    public void everythingSpeaks() {
        for (int id : new int[] {R.id.preview, R.id.stages, R.id.saves, R.id.deadline, R.id.bundle, R.id.version,
            R.id.threads, R.id.delegate}) {
            CharSequence said = screen.activity.findViewById(id).getContentDescription();
            assertTrue(screen.activity.getResources().getResourceName(id), said != null && said.length() > 3);
        }
        String stages = screen.activity.findViewById(R.id.stages).getContentDescription().toString();
        assertTrue(stages, stages.contains("the image left here. score ") && stages.contains("main: saved, about "));
        assertTrue(screen.threshold("branch_1").getContentDescription().toString().startsWith("Thresholds, branch_1: "));
        float dp = screen.activity.getResources().getDisplayMetrics().density;
        for (int id : new int[] {R.id.next, R.id.draw, R.id.camera, R.id.invert, R.id.deadline, R.id.bundle}) {
            assertTrue(screen.activity.findViewById(id).getHeight() >= 47 * dp);
        }
    }

    @Test
    public void largeFonts() throws Exception {
        RuntimeEnvironment.setFontScale(1.8f);
        controller.recreate();
        screen = new Screen(controller.get());
        assertEquals(1.8f, new Configuration(screen.activity.getResources().getConfiguration()).fontScale, 0);
        assertAsPython(0);
        screen.draw("large_fonts");
    }

    @Test
    public void savedStateIsSmallEnough() {
        screen.click(R.id.camera);
        receive(MainActivity.CAMERA, new Intent().putExtra("data", drawOne(640, 480)));
        Bundle state = new Bundle();
        controller.saveInstanceState(state);
        android.os.Parcel parcel = android.os.Parcel.obtain();
        state.writeToParcel(parcel, 0);
        assertTrue("saved state of " + parcel.dataSize() + " bytes", parcel.dataSize() < 200_000);
        parcel.recycle();
    }

    @Test
    public void whatIsBeingReadOutlivesTheProcess() {
        Choice choice = new Choice();
        choice.version = "slowdown";
        choice.reading = "content://pictures/picture";
        choice.drawn = true;
        android.os.Parcel parcel = android.os.Parcel.obtain();
        choice.writeToParcel(parcel, 0);
        parcel.setDataPosition(0);
        Choice read = Choice.CREATOR.createFromParcel(parcel);
        assertEquals(parcel.dataSize(), parcel.dataPosition());
        parcel.recycle();
        assertEquals("slowdown", read.version);
        assertEquals("content://pictures/picture", read.reading);
        assertTrue(read.drawn);
    }

    /** A picture of another app, which throws {@link #failure} if there is one. */
    private Uri provide(final byte[] file) {
        Uri uri = Uri.parse("content://pictures/picture");
        shadowOf(screen.activity.getContentResolver()).registerInputStreamSupplier(uri,
                new java.util.function.Supplier<java.io.InputStream>() {
                    @Override
                    public java.io.InputStream get() {
                        opened++;
                        if (failure instanceof Error) {
                            throw (Error) failure;
                        }
                        if (failure != null) {
                            throw (RuntimeException) failure;
                        }
                        return new ByteArrayInputStream(file);
                    }
                });
        return uri;
    }

    private void receive(int request, Intent data) {
        deliver(data);
        Screen.idle();
    }

    /** The answer to what was started last; what the app posts thereupon is left to be done. */
    private void deliver(Intent data) {
        shadowOf(screen.activity).receiveResult(shadowOf(screen.activity).peekNextStartedActivityForResult().intent,
                Activity.RESULT_OK, data);
    }

    /** Dark ink on light paper. */
    private static Bitmap drawOne(int width, int height) {
        Bitmap bitmap = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888);
        Canvas canvas = new Canvas(bitmap);
        canvas.drawColor(Color.WHITE);
        Paint ink = new Paint(Paint.ANTI_ALIAS_FLAG);
        ink.setStrokeWidth(width * 0.09f);
        canvas.drawLine(width * 0.5f, height * 0.18f, width * 0.5f, height * 0.82f, ink);
        return bitmap;
    }

    private static byte[] pictureOfAOne(int width, int height) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        drawOne(width, height).compress(Bitmap.CompressFormat.PNG, 100, bytes);
        return bytes.toByteArray();
    }
}
