package org.rditf.core;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** A bundle whose manifest holds and whose files are those it names. */
public final class Bundle {
    /** A manifest takes some kilobytes; whatever is far larger is none. */
    private static final int LARGEST_MANIFEST = 1 << 20;

    public final BundleSource source;
    public final Manifest manifest;

    private Bundle(BundleSource source, Manifest manifest) {
        this.source = source;
        this.manifest = manifest;
    }

    /** Reads a bundle and holds every file against its size and checksum; one that does not hold throws. */
    public static Bundle open(BundleSource source) throws BundleException {
        Manifest manifest;
        try {
            manifest = Manifest.parse(manifestText(source));
        } catch (IOException error) {
            throw new BundleException(source.name() + " is not a bundle: " + Manifest.FILE + " cannot be read", error);
        } catch (BundleException error) {
            throw new BundleException(source.name() + ": " + error.getMessage(), error);
        }
        Bundle bundle = new Bundle(source, manifest);
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

    private static String manifestText(BundleSource source) throws IOException, BundleException {
        try (InputStream stream = source.open(Manifest.FILE)) {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            byte[] buffer = new byte[8192];
            for (int count = stream.read(buffer); count >= 0; count = stream.read(buffer)) {
                bytes.write(buffer, 0, count);
                if (bytes.size() > LARGEST_MANIFEST) {
                    throw new BundleException(Manifest.FILE + ": far too large");
                }
            }
            return new String(bytes.toByteArray(), StandardCharsets.UTF_8);
        }
    }

    private void check(FileEntry file) throws BundleException {
        String place = source.name() + ": " + file.name;
        MessageDigest digest = sha256();
        long bytes = 0;
        try (InputStream stream = source.open(file.name)) {
            byte[] buffer = new byte[1 << 16];
            for (int count = stream.read(buffer); count >= 0; count = stream.read(buffer)) {
                digest.update(buffer, 0, count);
                bytes += count;
            }
        } catch (IOException error) {
            throw new BundleException(place + " is missing or cannot be read", error);
        }
        if (bytes != file.bytes) {
            throw new BundleException(place + ": expected " + file.bytes + " bytes, got " + bytes + ": not whole");
        }
        if (!hexadecimal(digest.digest()).equals(file.sha256)) {
            throw new BundleException(place + ": its SHA-256 is not the one in " + Manifest.FILE + ": altered");
        }
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
    }

    private static String hexadecimal(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte value : bytes) {
            text.append(Character.forDigit((value >> 4) & 15, 16)).append(Character.forDigit(value & 15, 16));
        }
        return text.toString();
    }
}
