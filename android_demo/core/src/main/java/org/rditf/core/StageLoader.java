package org.rditf.core;

/** Loads model files. */
public interface StageLoader {
    /** A file of a bundle, ready to run; one that cannot be loaded, or is not what the manifest says, throws. */
    StageRunner load(Bundle bundle, Piece piece) throws BundleException;

    /** What computes, for people: the delegate and such. */
    String delegate();

    /** Threads that each file may use. */
    int threads();
}
