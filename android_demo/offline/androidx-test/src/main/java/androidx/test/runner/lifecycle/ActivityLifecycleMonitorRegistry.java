package androidx.test.runner.lifecycle;

import java.util.concurrent.atomic.AtomicReference;

/** Holds the process's {@link ActivityLifecycleMonitor}. */
public final class ActivityLifecycleMonitorRegistry {
    private static final AtomicReference<ActivityLifecycleMonitor> INSTANCE = new AtomicReference<>();

    private ActivityLifecycleMonitorRegistry() {}

    public static ActivityLifecycleMonitor getInstance() {
        ActivityLifecycleMonitor instance = INSTANCE.get();
        if (instance == null) {
            throw new IllegalStateException("no ActivityLifecycleMonitor is registered");
        }
        return instance;
    }

    public static void registerInstance(ActivityLifecycleMonitor instance) {
        INSTANCE.set(instance);
    }
}
