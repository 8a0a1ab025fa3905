package org.rditf.core;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;

/** A bundle in a folder. */
public final class FolderSource implements BundleSource {
    public final File folder;

    public FolderSource(File folder) {
        this.folder = folder;
    }

    @Override
    public String name() {
        return folder.getPath();
    }

    @Override
    public InputStream open(String file) throws IOException {
        return new FileInputStream(new File(folder, file));
    }
}
