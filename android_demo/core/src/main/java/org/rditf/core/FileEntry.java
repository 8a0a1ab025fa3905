package org.rditf.core;

/** A file of the bundle: its plain name, its size in bytes, its SHA-256 in hexadecimal digits. */
public final class FileEntry {
    public final String name;
    public final long bytes;
    public final String sha256;

    public FileEntry(String name, long bytes, String sha256) throws BundleException {
        if (!name.matches("[A-Za-z0-9_][A-Za-z0-9_.-]*") || name.equals(Manifest.FILE)) {
            throw new BundleException("file name '" + name + "': expected a plain name");
        }
        if (bytes < 0 || !sha256.matches("[0-9a-f]{64}")) {
            throw new BundleException("file '" + name + "': expected its size and 64 hexadecimal digits of SHA-256");
        }
        this.name = name;
        this.bytes = bytes;
        this.sha256 = sha256;
    }
}
