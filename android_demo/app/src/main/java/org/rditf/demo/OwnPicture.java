package org.rditf.demo;

import android.graphics.Bitmap;
import android.net.Uri;
import org.rditf.core.Preprocessing;

/** A picture of the user's on its way into the choice: it may have to be read first, or to wait for the network. */
final class OwnPicture {
    interface Listener {
        /** The picture is in the choice. */
        void onTaken();

        /** What there is to say: a string's id, 0 for nothing any more. */
        void onMessage(int text);
    }

    private final Choice choice;
    private final PictureReader reader;
    private final Listener listener;
    /** What the network takes; null while none is loaded. */
    private Preprocessing wanted;
    /** A small picture that came before the network was loaded, as it does where the screen was made anew meanwhile. */
    private Bitmap waiting;
    private boolean waitingDrawn;

    OwnPicture(Choice choice, PictureReader reader, Listener listener) {
        this.choice = choice;
        this.reader = reader;
        this.listener = listener;
    }

    /** No network is there that could take a picture. What is being read is read again, in the next one's size. */
    void networkGone() {
        wanted = null;
        reader.forget();
    }

    /** A network is there: what waited for it goes into the choice, and what was picked is read in its size. */
    void networkCame(Preprocessing taken) {
        wanted = taken;
        if (waiting != null) {
            put(Pictures.pixels(waiting, wanted), waitingDrawn);
            waiting = null;
        }
        if (choice.reading != null) {
            read();
        }
    }

    /** Takes a small picture; null is none. */
    void take(Bitmap picture, boolean drawn) {
        if (picture == null) {
            listener.onMessage(R.string.no_picture);
            return;
        }
        drop();
        if (wanted == null) {
            waiting = picture;
            waitingDrawn = drawn;
            return;
        }
        listener.onMessage(0);
        put(Pictures.pixels(picture, wanted), drawn);
        listener.onTaken();
    }

    /** Reads a picture; null is none. */
    void read(Uri uri) {
        if (uri == null) {
            listener.onMessage(R.string.no_picture);
            return;
        }
        waiting = null;
        choice.reading = uri.toString();
        read();
    }

    /** Something else is to be seen than a picture that is on its way. */
    void drop() {
        waiting = null;
        if (choice.reading != null) {
            reader.forget();
            choice.reading = null;
            listener.onMessage(0);
        }
    }

    /** The screen is gone. What is being read stands in its saved choice, for the next. */
    void close() {
        reader.forget();
    }

    private void read() {
        listener.onMessage(R.string.reading);
        if (wanted == null) {
            return;
        }
        reader.read(Uri.parse(choice.reading), wanted, new PictureReader.Read() {
            @Override
            public void onRead(int[] pixels) {
                choice.reading = null;
                if (pixels == null) {
                    listener.onMessage(R.string.no_picture);
                    return;
                }
                listener.onMessage(0);
                put(pixels, false);
                listener.onTaken();
            }
        });
    }

    private void put(int[] pixels, boolean drawn) {
        choice.picture = pixels;
        choice.pictureWidth = wanted.width;
        choice.drawn = drawn;
    }
}
