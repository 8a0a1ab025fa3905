package androidx.test.runner.intent;

/** There is never an {@link IntentStubber} here. */
public final class IntentStubberRegistry {
    private IntentStubberRegistry() {}

    public static boolean isLoaded() {
        return false;
    }

    public static IntentStubber getInstance() {
        throw new IllegalStateException("no IntentStubber is registered");
    }
}
