package org.rditf.demo;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

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
        assertEquals(1, log().size());
        assertEquals("b2", log().get(0).getString("id"));
        assertEquals("/nowhere is not a bundle: manifest.json cannot be read", log().get(0).getString("error"));
        assertEquals("Failed: /nowhere is not a bundle: manifest.json cannot be read", screen.text(R.id.status));
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
