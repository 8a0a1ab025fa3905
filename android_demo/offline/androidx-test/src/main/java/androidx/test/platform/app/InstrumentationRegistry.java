package androidx.test.platform.app;

import android.app.Instrumentation;
import android.os.Bundle;
import java.util.concurrent.atomic.AtomicReference;

/** Holds the process's {@link Instrumentation}. */
public final class InstrumentationRegistry {
    private static final AtomicReference<Instrumentation> INSTANCE = new AtomicReference<>();
    private static final AtomicReference<Bundle> ARGUMENTS = new AtomicReference<>();

    private InstrumentationRegistry() {}

    public static Instrumentation getInstrumentation() {
        Instrumentation instance = INSTANCE.get();
        if (instance == null) {
            throw new IllegalStateException("no Instrumentation is registered");
        }
        return instance;
    }

    public static Bundle getArguments() {
        return new Bundle(ARGUMENTS.get());
    }

    public static void registerInstance(Instrumentation instance, Bundle arguments) {
        INSTANCE.set(instance);
        ARGUMENTS.set(arguments == null ? null : new Bundle(arguments));
    }
}
