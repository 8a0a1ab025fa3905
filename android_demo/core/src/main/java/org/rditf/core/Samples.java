package org.rditf.core;

import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The app's sample images: the same pictures in several versions (clean, adversarial, …), with their true classes. */
public final class Samples {
    /** In the order in which they are offered. */
    public final List<String> versions;
    /** Number of pictures. */
    public final int count;
    private final Preprocessing shape;
    private final Npz npz;
    private final int[] labels;

    /**
     * Reads samples.npz and samples.json, which make_assets.py writes.
     *
     * @param description text of samples.json
     * @param shape of the images
     */
    public Samples(InputStream arrays, String description, Preprocessing shape) throws IOException, BundleException {
        npz = Npz.read(arrays);
        labels = npz.get("labels").ints();
        count = labels.length;
        this.shape = shape;
        List<String> names = new ArrayList<>();
        try {
            JSONArray found = new JSONObject(description).getJSONArray("versions");
            for (int index = 0; index < found.length(); index++) {
                names.add(found.getString(index));
                npz.get(names.get(index)).expect("u1", count, shape.height, shape.width, shape.channels);
            }
        } catch (JSONException error) {
            throw new BundleException("samples.json: " + error.getMessage(), error);
        }
        versions = Collections.unmodifiableList(names);
    }

    /** True class of a picture. */
    public int label(int picture) {
        return labels[picture];
    }

    /** One picture in one version. */
    public float[] image(String version, int picture) throws IOException {
        float[] image = npz.get(version).floats(picture * shape.elements(), shape.elements());
        for (int index = 0; index < image.length; index++) {
            image[index] /= shape.divideBy;
        }
        return image;
    }

    /** All pictures in one version. */
    public LabelledImages images(String version) throws IOException {
        float[][] images = new float[count][];
        for (int picture = 0; picture < count; picture++) {
            images[picture] = image(version, picture);
        }
        return new LabelledImages("the app's samples, " + version, images, labels.clone());
    }
}
