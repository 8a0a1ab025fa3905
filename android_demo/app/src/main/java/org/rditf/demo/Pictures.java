package org.rditf.demo;

import android.content.ContentResolver;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.graphics.Matrix;
import android.media.ExifInterface;
import android.net.Uri;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import org.rditf.core.Preprocessing;
import org.rditf.core.Preprocessor;

/** Pictures from elsewhere, and images as bitmaps. */
final class Pictures {
    /** A picture is read no larger than about twice this in either direction, however large the file. */
    private static final int LARGEST = 1024;

    private Pictures() {}

    /**
     * Reads a picture, subsampled if it is large, turned as its orientation mark says.
     *
     * <p>It is opened once, since its provider may download it each time. Whatever a provider throws comes through.
     */
    static Bitmap read(ContentResolver resolver, Uri uri) throws IOException {
        byte[] file;
        try (InputStream stream = resolver.openInputStream(uri)) {
            if (stream == null) {
                throw new IOException("not to be had: " + uri);
            }
            file = Streams.bytes(stream);
        }
        BitmapFactory.Options bounds = new BitmapFactory.Options();
        bounds.inJustDecodeBounds = true;
        BitmapFactory.decodeByteArray(file, 0, file.length, bounds);
        if (bounds.outWidth < 1 || bounds.outHeight < 1) {
            throw new IOException("not a picture: " + uri);
        }
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inSampleSize = sampleSize(bounds.outWidth, bounds.outHeight);
        options.inPremultiplied = false; // colours as the file has them, as Python reads them
        Bitmap picture = BitmapFactory.decodeByteArray(file, 0, file.length, options);
        if (picture == null) {
            throw new IOException("not a picture: " + uri);
        }
        picture.setHasAlpha(false); // transparency is dropped, not blended with anything
        Matrix turn = turn(file);
        return turn.isIdentity() ? picture
                : Bitmap.createBitmap(picture, 0, 0, picture.getWidth(), picture.getHeight(), turn, true);
    }

    /** Every how many pixels one is read: a power of two that leaves at least LARGEST in the longer direction. */
    static int sampleSize(int width, int height) {
        int size = 1;
        while (Math.max(width, height) / (2 * size) >= LARGEST) {
            size *= 2;
        }
        return size;
    }

    /** A picture in a network's size and colours, ARGB, not inverted: small enough to be kept. */
    static int[] pixels(Bitmap picture, Preprocessing wanted) {
        int[] pixels = new int[picture.getWidth() * picture.getHeight()];
        picture.getPixels(pixels, 0, picture.getWidth(), 0, 0, picture.getWidth(), picture.getHeight());
        return pixels(new Preprocessor(wanted).image(pixels, picture.getWidth(), picture.getHeight(), false), wanted);
    }

    /** What a network sees, as a bitmap of one pixel for each of its own. */
    static Bitmap bitmap(float[] image, Preprocessing shape) {
        return Bitmap.createBitmap(pixels(image, shape), shape.width, shape.height, Bitmap.Config.ARGB_8888);
    }

    private static int[] pixels(float[] image, Preprocessing shape) {
        int[] pixels = new int[shape.width * shape.height];
        for (int pixel = 0; pixel < pixels.length; pixel++) {
            int red = level(image, pixel * shape.channels, shape);
            int green = shape.channels == 1 ? red : level(image, pixel * shape.channels + 1, shape);
            int blue = shape.channels == 1 ? red : level(image, pixel * shape.channels + 2, shape);
            pixels[pixel] = 0xff000000 | red << 16 | green << 8 | blue;
        }
        return pixels;
    }

    private static int level(float[] image, int index, Preprocessing shape) {
        return Math.min(255, Math.round(image[index] * shape.divideBy));
    }

    private static Matrix turn(byte[] file) throws IOException {
        Matrix matrix = new Matrix();
        switch (new ExifInterface(new ByteArrayInputStream(file))
                .getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)) {
            case ExifInterface.ORIENTATION_FLIP_HORIZONTAL:
                matrix.setScale(-1, 1);
                break;
            case ExifInterface.ORIENTATION_ROTATE_180:
                matrix.setRotate(180);
                break;
            case ExifInterface.ORIENTATION_FLIP_VERTICAL:
                matrix.setScale(1, -1);
                break;
            case ExifInterface.ORIENTATION_TRANSPOSE:
                matrix.setRotate(90);
                matrix.postScale(-1, 1);
                break;
            case ExifInterface.ORIENTATION_ROTATE_90:
                matrix.setRotate(90);
                break;
            case ExifInterface.ORIENTATION_TRANSVERSE:
                matrix.setRotate(-90);
                matrix.postScale(-1, 1);
                break;
            case ExifInterface.ORIENTATION_ROTATE_270:
                matrix.setRotate(-90);
                break;
            default:
                break;
        }
        return matrix;
    }
}
