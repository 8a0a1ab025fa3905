package androidx.test.runner.intent;

/** Sees intents that are sent. Nothing here asks it. */
public interface IntentMonitor {}
