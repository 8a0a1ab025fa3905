package org.rditf.core;

import java.io.IOException;
import java.io.InputStream;

/** Where a bundle's files lie: a folder, an app's assets. */
public interface BundleSource {
    /** A name for people. */
    String name();

    /** A file of the bundle, from its start; the caller closes it. */
    InputStream open(String file) throws IOException;
}
