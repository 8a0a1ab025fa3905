package org.rditf.core;

import org.json.JSONException;
import org.json.JSONObject;

/** What is to be measured, as `rdi-tf benchmark --adb` says it. */
public final class BenchmarkOptions {
    /** As rdi_tf.export.runner.MOST_THREADS. */
    private static final int MOST_THREADS = 256;

    /** Marks the lines in the log that belong to this benchmark. */
    public final String id;
    /** Folder of a pushed bundle, or name of one in the app's assets; null for the app's first. */
    public final String bundle;
    /** Name of a set of the app's images; null for the bundle's golden inputs. */
    public final String images;
    /** Delegate, as the app names them; null for the default. */
    public final String delegate;
    /** Use the first so many images. */
    public final int limit;
    public final int threads;
    /** Measured passes of each kind. */
    public final int rounds;
    /** Passes before them. */
    public final int warmupRounds;
    /** Start no further round after that. */
    public final double maxSeconds;

    private BenchmarkOptions(JSONObject json) throws JSONException, BundleException {
        id = id(json);
        bundle = json.isNull("bundle") ? null : json.getString("bundle");
        images = json.isNull("images") ? null : json.getString("images");
        delegate = json.isNull("delegate") ? null : json.getString("delegate");
        limit = atLeastOne(json, "limit", 100, Integer.MAX_VALUE);
        threads = atLeastOne(json, "threads", 1, MOST_THREADS);
        rounds = atLeastOne(json, "rounds", 30, Integer.MAX_VALUE);
        warmupRounds = atLeastOne(json, "warmup_rounds", 3, Integer.MAX_VALUE);
        maxSeconds = json.has("max_seconds") ? json.getDouble("max_seconds") : 150;
        if (!(maxSeconds > 0)) {
            throw new BundleException("max_seconds: expected a number above 0, got " + maxSeconds);
        }
    }

    /** Reads JSON text; entries that are left out have their defaults. */
    public static BenchmarkOptions parse(String text) throws BundleException {
        try {
            return new BenchmarkOptions(new JSONObject(text));
        } catch (JSONException error) {
            throw new BundleException("benchmark arguments: " + error.getMessage(), error);
        }
    }

    /** The id in JSON text, whatever else is wrong there; without it nobody would find what is logged. "" for none. */
    public static String idOf(String text) {
        try {
            return id(new JSONObject(text));
        } catch (JSONException error) {
            return "";
        }
    }

    private static String id(JSONObject json) {
        return json.optString("id", "");
    }

    /** Read as double, which holds every int: JSONObject's getInt and getLong cut off what does not fit. */
    private static int atLeastOne(JSONObject json, String name, int otherwise, int most)
            throws JSONException, BundleException {
        if (!json.has(name)) {
            return otherwise;
        }
        double value = json.getDouble(name);
        if (!(value >= 1 && value <= most && value == Math.rint(value))) {
            throw new BundleException(name + ": expected a whole number from 1 to " + most + ", got " + json.get(name));
        }
        return (int) value;
    }
}
