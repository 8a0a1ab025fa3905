package org.rditf.demo;

import android.content.res.AssetManager;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import org.rditf.core.BundleSource;

/** A bundle among the app's assets. */
final class AssetSource implements BundleSource {
    private static final String FOLDER = "bundles";
    /** What the app starts with, if it is there. */
    private static final String FIRST = "int8";

    final AssetManager assets;
    private final String name;

    AssetSource(AssetManager assets, String name) {
        this.assets = assets;
        this.name = name;
    }

    /** Names of the app's bundles. */
    static List<String> names(AssetManager assets) {
        Set<String> folders = new LinkedHashSet<>();
        try {
            for (String entry : assets.list(FOLDER)) {
                folders.add(entry.split("/")[0]); // Robolectric lists the files in folders, too
            }
        } catch (IOException error) {
            return new ArrayList<>();
        }
        List<String> names = new ArrayList<>(folders);
        Collections.sort(names);
        if (names.remove(FIRST)) {
            names.add(0, FIRST);
        }
        return names;
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public InputStream open(String file) throws IOException {
        return assets.open(path(file));
    }

    String path(String file) {
        return FOLDER + "/" + name + "/" + file;
    }
}
