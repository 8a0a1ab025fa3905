package org.rditf.core;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** Reads manifest.json. Uses only what Android's own org.json and the one of Maven Central have in common. */
final class ManifestJson {
    private ManifestJson() {}

    static Manifest.Parts read(String text) throws BundleException {
        try {
            JSONObject json = new JSONObject(text);
            int format = json.optInt("format", 0);
            if (format < 1) {
                throw new BundleException(Manifest.FILE + ": not a bundle's manifest, it has no format number");
            }
            if (format > Manifest.FORMAT) {
                throw new BundleException(Manifest.FILE + ": format " + format + " is newer than this app reads ("
                        + Manifest.FORMAT + "); update the app");
            }
            return parts(json);
        } catch (JSONException error) {
            throw new BundleException(Manifest.FILE + ": " + error.getMessage(), error);
        }
    }

    private static Manifest.Parts parts(JSONObject json) throws BundleException, JSONException {
        Manifest.Parts parts = new Manifest.Parts();
        parts.name = json.getString("name");
        parts.dtype = json.getString("dtype");
        if (!json.isNull("batch_size") && json.getInt("batch_size") != 1) {
            throw new BundleException("takes " + json.getInt("batch_size")
                    + " images at a time; export with --batch-size 1 or dynamic");
        }
        parts.labels = strings(json.getJSONArray("labels"));
        parts.exitNames = strings(json.getJSONArray("exit_names"));
        parts.preprocessing = preprocessing(json.getJSONObject("preprocessing"));
        parts.stages = new ArrayList<>();
        JSONArray stages = json.getJSONArray("stages");
        for (int index = 0; index < stages.length(); index++) {
            parts.stages.add(piece(stages.getJSONObject(index)));
        }
        parts.unsplit = piece(json.getJSONObject("unsplit"));
        JSONObject policy = json.getJSONObject("policy");
        parts.policyName = policy.getString("name");
        parts.thresholds = doubles(policy.getJSONArray("thresholds"));
        JSONObject costs = json.getJSONObject("costs");
        parts.executedMacs = doubles(costs.getJSONArray("executed_macs"));
        parts.backboneExecutedMacs = costs.getDouble("backbone_executed_macs");
        JSONObject golden = json.getJSONObject("golden");
        parts.goldenFile = file(golden.getJSONObject("file"));
        parts.goldenImages = golden.getInt("images");
        parts.goldenTolerance = golden.getDouble("tolerance");
        return parts;
    }

    private static Preprocessing preprocessing(JSONObject json) throws BundleException, JSONException {
        return new Preprocessing(json.getInt("height"), json.getInt("width"), json.getInt("channels"),
                json.getDouble("divide_by"), json.getString("resize"));
    }

    private static Piece piece(JSONObject json) throws BundleException, JSONException {
        List<TensorSpec> outputs = new ArrayList<>();
        JSONArray array = json.getJSONArray("outputs");
        for (int index = 0; index < array.length(); index++) {
            outputs.add(tensor(array.getJSONObject(index)));
        }
        return new Piece(file(json.getJSONObject("file")), json.getString("signature"),
                tensor(json.getJSONObject("input")), outputs, handover(json.getString("handover")));
    }

    private static Piece.Handover handover(String text) throws BundleException {
        for (Piece.Handover handover : Piece.Handover.values()) {
            if (handover.name().toLowerCase(Locale.ROOT).equals(text)) {
                return handover;
            }
        }
        throw new BundleException("handover: expected image, direct or requantise, got '" + text + "'");
    }

    private static TensorSpec tensor(JSONObject json) throws BundleException, JSONException {
        String name = json.getString("name");
        String dtype = json.getString("dtype");
        boolean quantised = !json.isNull("quantisation");
        if (!(dtype.equals("int8") && quantised) && !(dtype.equals("float32") && !quantised)) {
            throw new BundleException(name + ": expected float32, or int8 with its quantisation, got " + dtype);
        }
        Quantisation quantisation = null;
        if (quantised) {
            JSONObject values = json.getJSONObject("quantisation");
            quantisation = new Quantisation(values.getDouble("scale"), values.getInt("zero_point"));
        }
        JSONArray lengths = json.getJSONArray("shape");
        int[] shape = new int[lengths.length()];
        for (int axis = 0; axis < shape.length; axis++) {
            shape[axis] = lengths.getInt(axis);
        }
        return new TensorSpec(name, json.getInt("position"), shape, quantisation);
    }

    private static FileEntry file(JSONObject json) throws BundleException, JSONException {
        return new FileEntry(json.getString("name"), json.getLong("bytes"), json.getString("sha256"));
    }

    private static List<String> strings(JSONArray array) throws JSONException {
        List<String> strings = new ArrayList<>();
        for (int index = 0; index < array.length(); index++) {
            strings.add(array.getString(index));
        }
        return strings;
    }

    private static double[] doubles(JSONArray array) throws JSONException {
        double[] numbers = new double[array.length()];
        for (int index = 0; index < numbers.length; index++) {
            numbers[index] = array.getDouble(index);
        }
        return numbers;
    }
}
