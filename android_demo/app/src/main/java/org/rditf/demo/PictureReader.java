package org.rditf.demo;

import android.content.ContentResolver;
import android.net.Uri;
import android.os.Handler;
import android.os.Looper;
import android.util.Log;
import java.io.IOException;
import java.util.concurrent.Executor;
import java.util.concurrent.atomic.AtomicInteger;
import org.rditf.core.Preprocessing;

/** Reads pictures for a screen, off the main thread: a provider may download them first, and large ones take long. */
final class PictureReader {
    /** Told, on the main thread, of the newest picture only. */
    interface Read {
        /** @param pixels ARGB in the network's size; null for a picture that cannot be read. */
        void onRead(int[] pixels);
    }

    private static final String TAG = "RDITF";

    private final ContentResolver resolver;
    private final Executor worker;
    private final Handler main = new Handler(Looper.getMainLooper());
    private final AtomicInteger newest = new AtomicInteger();

    PictureReader(ContentResolver resolver, Executor worker) {
        this.resolver = resolver;
        this.worker = worker;
    }

    /** Reads a picture and brings it to a network's size; one that was asked for before is forgotten. */
    void read(final Uri uri, final Preprocessing wanted, final Read then) {
        final int question = newest.incrementAndGet();
        worker.execute(new Runnable() {
            @Override
            public void run() {
                if (question != newest.get()) {
                    return;
                }
                final int[] pixels = pixels(uri, wanted);
                main.post(new Runnable() {
                    @Override
                    public void run() {
                        if (question == newest.get()) {
                            then.onRead(pixels);
                        }
                    }
                });
            }
        });
    }

    /** No picture that was asked for is wanted any more. */
    void forget() {
        newest.incrementAndGet();
    }

    /** Providers are other apps, which may throw anything; the app must live on. */
    private int[] pixels(Uri uri, Preprocessing wanted) {
        try {
            return Pictures.pixels(Pictures.read(resolver, uri), wanted);
        } catch (IOException | RuntimeException | OutOfMemoryError error) {
            Log.w(TAG, "a picture that cannot be read", error);
            return null;
        }
    }
}
