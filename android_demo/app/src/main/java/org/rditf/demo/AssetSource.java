package org.rditf.demo;

import android.content.res.AssetManager;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
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
        List<String> names = new ArrayList<>();
        try {
            names.addAll(Arrays.asList(assets.list(FOLDER)));
        } catch (IOException error) {
            return names;
        }
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
