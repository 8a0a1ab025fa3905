package org.rditf.demo;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.content.Intent;
import android.util.Log;
import android.widget.TableLayout;
import android.widget.TableRow;
import android.widget.TextView;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import org.json.JSONObject;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.rditf.core.TestFiles;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;
import org.robolectric.shadows.ShadowLog;

/** Measurements from the screen and from adb. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 33, application = TestApp.class, qualifiers = "w400dp-h720dp-hdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
public class BenchmarkActivityTest {
    private static Screen started(Intent intent) {
        return new Screen(Robolectric.buildActivity(BenchmarkActivity.class, intent).setup().get());
    }

    private static TestApp app() {
        return (TestApp) RuntimeEnvironment.getApplication();
    }

    /** What the one line in the log says that went wrong, to whom has this id. */
    private static String error(String id) throws Exception {
        assertEquals(1, log().size());
        assertEquals(id, log().get(0).getString("id"));
        return log().get(0).getString("error");
    }

    private static List<JSONObject> log() throws Exception {
        List<JSONObject> entries = new ArrayList<>();
        for (ShadowLog.LogItem item : ShadowLog.getLogsForTag(BenchmarkJob.TAG)) {
            assertEquals(Log.INFO, item.type);
            assertTrue(item.msg.getBytes(StandardCharsets.UTF_8).length < 4000);
            assertTrue(!item.msg.contains("\n"));
            entries.add(new JSONObject(item.msg));
        }
        return entries;
    }

    @Test
    public void adbMeasuresAPushedBundle() throws Exception {
        File pushed = new File(TestFiles.assets(), "bundles/int8");
        String arguments = new JSONObject().put("id", "a1").put("bundle", pushed.getAbsolutePath()).put("limit", 100)
                .put("threads", 2).put("rounds", 2).put("warmup_rounds", 1).put("max_seconds", 150.0).toString();
        Screen screen = started(new Intent().putExtra("args", arguments));
        StringBuilder text = new StringBuilder();
        List<JSONObject> log = log();
        for (int part = 0; part < log.size(); part++) {
            assertEquals("a1", log.get(part).getString("id"));
            assertEquals(part + 1, log.get(part).getInt("part"));
            assertEquals(log.size(), log.get(part).getInt("parts"));
            text.append(log.get(part).getString("text"));
        }
        JSONObject result = new JSONObject(text.toString());
        assertEquals(16, result.getJSONObject("images").getInt("count"));
        assertEquals(2, result.getInt("threads"));
        assertEquals(2, result.getInt("rounds"));
        assertTrue(screen.text(R.id.status), screen.text(R.id.status).contains("16 images: "));
        // build.sh has rdi-tf read it.
        Files.write(new File(TestFiles.output(), "benchmark.json").toPath(),
                text.toString().getBytes(StandardCharsets.UTF_8));
        File csv = new File(((DemoApp) screen.activity.getApplication()).benchmark().files(), "benchmark.csv");
        assertEquals(9, Files.readAllLines(csv.toPath()).size());
    }

    @Test
    public void whatGoesWrongIsLoggedAndShown() throws Exception {
        Screen screen = started(new Intent().putExtra("args", "{\"id\":\"b2\",\"bundle\":\"/nowhere\"}"));
        assertEquals("/nowhere is not a bundle: manifest.json cannot be read", error("b2"));
        assertEquals("Failed: /nowhere is not a bundle: manifest.json cannot be read", screen.text(R.id.status));
    }

    @Test
    public void whoAskedHearsOfARefusedOption() throws Exception {
        Screen screen = started(new Intent().putExtra("args", "{\"id\":\"c3\",\"threads\":1000}"));
        assertEquals("threads: expected a whole number from 1 to 256, got 1000", error("c3"));
        assertEquals("Failed: threads: expected a whole number from 1 to 256, got 1000", screen.text(R.id.status));
    }

    @Test
    public void leavingTheScreenBreaksItOff() throws Exception {
        final ActivityController<BenchmarkActivity> controller = Robolectric.buildActivity(BenchmarkActivity.class,
                new Intent()).setup();
        Screen screen = new Screen(controller.get());
        app().meanwhile = new Runnable() {
            @Override
            public void run() {
                controller.pause().stop();
            }
        };
        screen.click(R.id.start);
        assertEquals("broken off: the screen was left", error(""));
        controller.restart().start().resume();
        Screen.idle();
        assertEquals("Failed: broken off: the screen was left", screen.text(R.id.status));
        assertEquals("Start", screen.text(R.id.start));
    }

    @Test
    public void leavingTheScreenBreaksOffWhatHasNotBegun() throws Exception {
        app().inference.waits = true;
        ActivityController<BenchmarkActivity> controller = Robolectric.buildActivity(BenchmarkActivity.class,
                new Intent().putExtra("args", "{\"id\":\"d4\"}")).setup();
        controller.pause().stop();
        app().inference.goOn();
        assertEquals("broken off: the screen was left", error("d4"));
        assertEquals(0, app().unsplitRuns);
    }

    @Test
    public void theButtonBreaksItOff() throws Exception {
        final Screen screen = started(new Intent());
        app().meanwhile = new Runnable() {
            @Override
            public void run() {
                screen.activity.findViewById(R.id.start).performClick();
            }
        };
        screen.click(R.id.start);
        assertEquals("Failed: the benchmark was broken off", screen.text(R.id.status));
    }

    @Test
    public void rotationAndAnotherScreenDoNotBreakItOff() throws Exception {
        app().inference.waits = true;
        ActivityController<BenchmarkActivity> first = Robolectric.buildActivity(BenchmarkActivity.class,
                new Intent().putExtra("args", "{\"rounds\":1,\"warmup_rounds\":1,\"limit\":1}")).setup();
        RuntimeEnvironment.setQualifiers("+land");
        first.recreate();
        Screen second = started(new Intent());
        first.pause().stop(); // as Android does it: after the second is there
        app().inference.goOn();
        assertTrue(second.text(R.id.status), second.text(R.id.status).contains(", 1 images: "));
    }

    @Test
    public void aLockedPhoneIsMeasuredFromAComputerOnly() {
        Screen screen = started(new Intent());
        assertFalse(shadowOf(screen.activity).getShowWhenLocked());
        screen = started(new Intent().putExtra("args", "{\"threads\":0}"));
        assertTrue(shadowOf(screen.activity).getShowWhenLocked());
        assertTrue(shadowOf(screen.activity).getTurnScreenOn());
    }

    @Test
    public void theButtonMeasuresTheSamples() throws Exception {
        Screen screen = started(new Intent().putExtra(BenchmarkActivity.BUNDLE, "float32")
                .putExtra(BenchmarkActivity.THREADS, 2).putExtra(BenchmarkActivity.DELEGATE, "cpu"));
        assertEquals("Start", screen.text(R.id.start));
        screen.click(R.id.start);
        String status = screen.text(R.id.status);
        assertTrue(status, status.contains("float32, 200 images: 99.0 % right. Saved: "));
        assertTrue(status, status.endsWith(", 2 threads."));
        assertEquals(Delegate.CPU, ((TestApp) screen.activity.getApplication()).delegate);
        TableLayout table = screen.activity.findViewById(R.id.table);
        assertEquals(1 + 3 + 3 + 2, table.getChildCount());
        int left = 0;
        for (int exit = 0; exit < 3; exit++) {
            TableRow row = (TableRow) table.getChildAt(4 + exit);
            left += Integer.parseInt(((TextView) row.getChildAt(1)).getText().toString());
        }
        assertEquals(200, left);
        ((TextView) screen.activity.findViewById(R.id.files)).setText(""); // no folder of this computer in the picture
        screen.draw("benchmark");
    }
}
