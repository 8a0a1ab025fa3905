package org.rditf.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** SHA-256 in hexadecimal digits, by which files and images are known. */
final class Sha256 {
    private final MessageDigest digest;

    Sha256() {
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
    }

    void update(byte[] bytes, int count) {
        digest.update(bytes, 0, count);
    }

    String hexadecimal() {
        StringBuilder text = new StringBuilder();
        for (byte value : digest.digest()) {
            text.append(Character.forDigit((value >> 4) & 15, 16)).append(Character.forDigit(value & 15, 16));
        }
        return text.toString();
    }

    static String of(byte[] bytes) {
        Sha256 digest = new Sha256();
        digest.update(bytes, bytes.length);
        return digest.hexadecimal();
    }

    /** Of images of a shape, as `rdi_tf.calibration_source.image_digest` names them: the shape, then float32 values. */
    static String ofImages(float[][] images, int height, int width, int channels) {
        String shape = "(" + images.length + ", " + height + ", " + width + ", " + channels + ")";
        Sha256 digest = new Sha256();
        byte[] text = shape.getBytes(StandardCharsets.US_ASCII);
        digest.update(text, text.length);
        for (float[] image : images) {
            ByteBuffer values = ByteBuffer.allocate(4 * image.length).order(ByteOrder.LITTLE_ENDIAN);
            values.asFloatBuffer().put(image);
            digest.update(values.array(), 4 * image.length);
        }
        return digest.hexadecimal();
    }
}
