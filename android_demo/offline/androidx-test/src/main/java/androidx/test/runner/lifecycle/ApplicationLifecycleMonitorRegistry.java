package androidx.test.runner.lifecycle;

import java.util.concurrent.atomic.AtomicReference;

/** Holds the process's {@link ApplicationLifecycleMonitor}. */
public final class ApplicationLifecycleMonitorRegistry {
    private static final AtomicReference<ApplicationLifecycleMonitor> INSTANCE = new AtomicReference<>();

    private ApplicationLifecycleMonitorRegistry() {}

    public static ApplicationLifecycleMonitor getInstance() {
        ApplicationLifecycleMonitor instance = INSTANCE.get();
        if (instance == null) {
            throw new IllegalStateException("no ApplicationLifecycleMonitor is registered");
        }
        return instance;
    }

    public static void registerInstance(ApplicationLifecycleMonitor instance) {
        INSTANCE.set(instance);
    }
}
