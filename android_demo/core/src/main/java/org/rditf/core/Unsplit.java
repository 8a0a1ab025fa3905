package org.rditf.core;

import java.io.Closeable;

/** The unsplit network of a bundle, all exits at once, for comparison with the cascade. */
public final class Unsplit implements Closeable {
    public final Bundle bundle;
    private final Manifest manifest;
    private final LoadedPiece piece;

    /** Loads the unsplit network of a bundle. */
    public Unsplit(Bundle bundle, StageLoader loader) throws BundleException {
        this(bundle, loader, Cascade.SYSTEM);
    }

    Unsplit(Bundle bundle, StageLoader loader, Cascade.Clock clock) throws BundleException {
        this.bundle = bundle;
        manifest = bundle.manifest;
        piece = new LoadedPiece(bundle, manifest.unsplit, loader, clock);
    }

    /** The class that the last exit calls; logits that are not finite throw. */
    public int predict(float[] image) throws BundleException {
        run(image);
        return ExitPolicy.argmax(ExitPolicy.finite(piece.numbers(manifest.exitNames.get(manifest.exits() - 1))));
    }

    /** Logits of every exit. */
    public float[][] exitLogits(float[] image) throws BundleException {
        run(image);
        float[][] logits = new float[manifest.exits()][];
        for (int exit = 0; exit < logits.length; exit++) {
            logits[exit] = piece.numbers(manifest.exitNames.get(exit));
        }
        return logits;
    }

    Steps run(float[] image) throws BundleException {
        Cascade.checkImage(image, manifest);
        return piece.runOnImage(image);
    }

    /** Nanoseconds that loading took. */
    public long loadNanos() {
        return piece.loadNanos;
    }

    @Override
    public void close() {
        piece.close();
    }
}
