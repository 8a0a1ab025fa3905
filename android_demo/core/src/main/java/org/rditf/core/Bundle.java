package org.rditf.core;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;

/** A bundle whose manifest holds and whose files are those it names. */
public final class Bundle {
    /** A manifest takes some kilobytes; whatever is far larger is none. */
    private static final int LARGEST_MANIFEST = 1 << 20;

    public final BundleSource source;
    public final Manifest manifest;
    /** SHA-256 of the manifest, which names the digests of the files, exit rule and thresholds. */
    public final String sha256;

    private Bundle(BundleSource source, Manifest manifest, String sha256) {
        this.source = source;
        this.manifest = manifest;
        this.sha256 = sha256;
    }

    /** Reads a bundle and holds every file against its size and checksum; one that does not hold throws. */
    public static Bundle open(BundleSource source) throws BundleException {
        Manifest manifest;
        byte[] bytes;
        try {
            bytes = manifestBytes(source);
            manifest = Manifest.parse(new String(bytes, StandardCharsets.UTF_8));
        } catch (IOException error) {
            throw new BundleException(source.name() + " is not a bundle: " + Manifest.FILE + " cannot be read", error);
        } catch (BundleException error) {
            throw new BundleException(source.name() + ": " + error.getMessage(), error);
        }
        Bundle bundle = new Bundle(source, manifest, Sha256.of(bytes));
        for (FileEntry file : manifest.files()) {
            bundle.check(file);
        }
        return bundle;
    }

    /** The inputs with the answers that must come out. */
    public GoldenVectors golden() throws BundleException {
        try (InputStream stream = source.open(manifest.goldenFile.name)) {
            return new GoldenVectors(Npz.read(stream), manifest);
        } catch (IOException error) {
            throw new BundleException(source.name() + ": " + manifest.goldenFile.name + ": " + error.getMessage(), error);
        }
    }

    private static byte[] manifestBytes(BundleSource source) throws IOException, BundleException {
        try (InputStream stream = source.open(Manifest.FILE)) {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            byte[] buffer = new byte[8192];
            for (int count = stream.read(buffer); count >= 0; count = stream.read(buffer)) {
                bytes.write(buffer, 0, count);
                if (bytes.size() > LARGEST_MANIFEST) {
                    throw new BundleException(Manifest.FILE + ": far too large");
                }
            }
            return bytes.toByteArray();
        }
    }

    private void check(FileEntry file) throws BundleException {
        String place = source.name() + ": " + file.name;
        Sha256 digest = new Sha256();
        long bytes = 0;
        try (InputStream stream = source.open(file.name)) {
            byte[] buffer = new byte[1 << 16];
            for (int count = stream.read(buffer); count >= 0; count = stream.read(buffer)) {
                digest.update(buffer, count);
                bytes += count;
            }
        } catch (IOException error) {
            throw new BundleException(place + " is missing or cannot be read", error);
        }
        if (bytes != file.bytes) {
            throw new BundleException(place + ": expected " + file.bytes + " bytes, got " + bytes + ": not whole");
        }
        if (!digest.hexadecimal().equals(file.sha256)) {
            throw new BundleException(place + ": its SHA-256 is not the one in " + Manifest.FILE + ": altered");
        }
    }
}
