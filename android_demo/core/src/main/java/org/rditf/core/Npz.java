package org.rditf.core;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/** NumPy's NPZ: a ZIP of arrays. */
public final class Npz {
    private static final String SUFFIX = ".npy";

    private final Map<String, NpyArray> arrays = new LinkedHashMap<>();

    private Npz() {}

    /** Reads all arrays of a stream. */
    public static Npz read(InputStream stream) throws IOException {
        Npz npz = new Npz();
        ZipInputStream zip = new ZipInputStream(stream);
        for (ZipEntry entry = zip.getNextEntry(); entry != null; entry = zip.getNextEntry()) {
            String name = entry.getName();
            if (name.endsWith(SUFFIX)) {
                npz.arrays.put(name.substring(0, name.length() - SUFFIX.length()), NpyArray.parse(bytes(zip)));
            }
        }
        if (npz.arrays.isEmpty()) {
            throw new IOException("expected NPZ, got a file without arrays");
        }
        return npz;
    }

    public boolean has(String name) {
        return arrays.containsKey(name);
    }

    /** The array of that name; none throws. */
    public NpyArray get(String name) throws IOException {
        NpyArray array = arrays.get(name);
        if (array == null) {
            throw new IOException("expected an array '" + name + "', got " + arrays.keySet());
        }
        return array;
    }

    private static byte[] bytes(InputStream stream) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        byte[] buffer = new byte[1 << 16];
        for (int count = stream.read(buffer); count >= 0; count = stream.read(buffer)) {
            bytes.write(buffer, 0, count);
        }
        return bytes.toByteArray();
    }
}
