package androidx.test.runner.lifecycle;

/** Knows the stage of the application. Nothing here asks it. */
public interface ApplicationLifecycleMonitor {}
