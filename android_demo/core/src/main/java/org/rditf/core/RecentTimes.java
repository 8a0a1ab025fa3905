package org.rditf.core;

import java.util.Arrays;

/** The latest durations of something. */
final class RecentTimes {
    private final long[] nanos;
    private int added;

    RecentTimes(int remembered) {
        nanos = new long[remembered];
    }

    void add(long duration) {
        nanos[added++ % nanos.length] = duration;
    }

    /** Forgets all. */
    void clear() {
        added = 0;
    }

    /** The median of what is remembered; 0 if nothing is. */
    double median() {
        int known = Math.min(added, nanos.length);
        if (known == 0) {
            return 0;
        }
        long[] sorted = Arrays.copyOf(nanos, known);
        Arrays.sort(sorted);
        return (sorted[(known - 1) / 2] + sorted[known / 2]) / 2.0;
    }
}
