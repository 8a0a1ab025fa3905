package org.rditf.core;

/** Nanoseconds of one run of a file: handing the input over, computing, taking the outputs out. */
public final class Steps {
    public final long feed;
    public final long invoke;
    public final long fetch;

    public Steps(long feed, long invoke, long fetch) {
        this.feed = feed;
        this.invoke = invoke;
        this.fetch = fetch;
    }
}
