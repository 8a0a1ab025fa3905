package org.rditf.core;

import static org.junit.Assume.assumeTrue;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;

/** What the tests read: the app's assets, and what Python says of them (reference.py). */
public final class TestFiles {
    private TestFiles() {}

    public static File assets() {
        return new File(System.getProperty("rditf.assets", "../app/src/main/assets"));
    }

    /** One of the app's bundles, "int8" or "float32". */
    public static Bundle bundle(String name) throws BundleException {
        return Bundle.open(new FolderSource(new File(assets(), "bundles/" + name)));
    }

    public static Samples samples(Bundle bundle) throws Exception {
        File folder = new File(assets(), "samples");
        try (InputStream arrays = new FileInputStream(new File(folder, "samples.npz"))) {
            return new Samples(arrays, text(new File(folder, "samples.json")), bundle.manifest.preprocessing);
        }
    }

    public static String text(File file) throws IOException {
        return new String(Files.readAllBytes(file.toPath()), StandardCharsets.UTF_8);
    }

    /** Arrays that Python wrote; without them the test is skipped. */
    public static Npz reference(String name) throws IOException {
        try (InputStream stream = new FileInputStream(referenceFile(name + ".npz"))) {
            return Npz.read(stream);
        }
    }

    /** LiteRT itself; without it the test is skipped. */
    public static LiteRt litert() throws IOException {
        return LiteRt.at(text(referenceFile("litert.txt")).trim());
    }

    /** A folder for what a test leaves behind. */
    public static File output() {
        return new File(System.getProperty("rditf.output", "target"));
    }

    private static File referenceFile(String name) {
        File file = new File(System.getProperty("rditf.reference", "target/reference"), name);
        assumeTrue("skipped: needs python reference.py write " + file.getParent(), file.isFile());
        return file;
    }
}
