package androidx.test.runner.intent;

import java.util.concurrent.atomic.AtomicReference;

/** Holds the process's {@link IntentMonitor}. */
public final class IntentMonitorRegistry {
    private static final AtomicReference<IntentMonitor> INSTANCE = new AtomicReference<>();

    private IntentMonitorRegistry() {}

    public static IntentMonitor getInstance() {
        IntentMonitor instance = INSTANCE.get();
        if (instance == null) {
            throw new IllegalStateException("no IntentMonitor is registered");
        }
        return instance;
    }

    public static void registerInstance(IntentMonitor instance) {
        INSTANCE.set(instance);
    }
}
