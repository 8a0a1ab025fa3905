package org.rditf.core;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.json.JSONException;
import org.json.JSONObject;

/** Lines of the device's log that `rdi-tf benchmark --adb` reads; docs/latency.md describes them. */
public final class LogLines {
    /** Android cuts lines at about 4000 bytes. */
    static final int LONGEST = 3500;

    private LogLines() {}

    /** A result: one line, or several parts if it is too long for one. */
    public static List<String> result(String id, String json) {
        String whole = "{\"id\":" + JSONObject.quote(id) + ",\"result\":" + json + "}";
        if (bytes(whole) <= LONGEST) {
            return Collections.singletonList(whole);
        }
        List<String> texts = pieces(json);
        List<String> lines = new ArrayList<>();
        for (int part = 1; part <= texts.size(); part++) {
            lines.add(line(id, "text", texts.get(part - 1), part, texts.size()));
        }
        return lines;
    }

    /** What went wrong. */
    public static String error(String id, String message) {
        String first = message.length() > 1000 ? message.substring(0, 1000) : message;
        return line(id, "error", first.replace('\n', ' '), 0, 0);
    }

    private static String line(String id, String name, String text, int part, int parts) {
        try {
            JSONObject json = new JSONObject().put("id", id).put(name, text);
            if (parts > 0) {
                json.put("part", part).put("parts", parts);
            }
            return json.toString();
        } catch (JSONException error) {
            throw new IllegalStateException("text that JSON cannot hold", error);
        }
    }

    /** Cuts text so that every piece is short enough even with its quotes escaped and in UTF-8. */
    private static List<String> pieces(String text) {
        List<String> pieces = new ArrayList<>();
        int start = 0;
        int used = 0;
        for (int at = 0; at < text.length(); ) {
            int next = at + Character.charCount(text.codePointAt(at));
            int size = bytes(JSONObject.quote(text.substring(at, next)));
            if (used + size > LONGEST - 500) {
                pieces.add(text.substring(start, at));
                start = at;
                used = 0;
            }
            used += size;
            at = next;
        }
        pieces.add(text.substring(start));
        return pieces;
    }

    private static int bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8).length;
    }
}
