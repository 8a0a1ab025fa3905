package org.rditf.demo;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.rditf.core.BundleException;

/** What computes. */
enum Delegate {
    XNNPACK(R.string.delegate_xnnpack),
    CPU(R.string.delegate_cpu),
    GPU(R.string.delegate_gpu);

    private static final String GPU_CLASS = "org.tensorflow.lite.gpu.GpuDelegate";

    final int label;

    Delegate(int label) {
        this.label = label;
    }

    /** Those that this build of the app has; the GPU's library is a part of the Gradle build only. */
    static List<Delegate> available() {
        List<Delegate> found = new ArrayList<>();
        for (Delegate delegate : values()) {
            if (delegate != GPU || hasGpu()) {
                found.add(delegate);
            }
        }
        return found;
    }

    /** The delegate of a name such as "xnnpack"; null means the default. */
    static Delegate named(String name) throws BundleException {
        if (name == null) {
            return XNNPACK;
        }
        for (Delegate delegate : available()) {
            if (delegate.name().toLowerCase(Locale.ROOT).equals(name)) {
                return delegate;
            }
        }
        throw new BundleException("delegate: expected one of " + available().toString().toLowerCase(Locale.ROOT)
                + ", got '" + name + "'");
    }

    /** LiteRT's own GPU delegate. */
    static org.tensorflow.lite.Delegate newGpu() throws BundleException {
        try {
            return (org.tensorflow.lite.Delegate) Class.forName(GPU_CLASS).getConstructor().newInstance();
        } catch (ReflectiveOperationException | LinkageError error) {
            throw new BundleException("the GPU cannot be used: " + error, error);
        }
    }

    private static boolean hasGpu() {
        try {
            Class.forName(GPU_CLASS);
            return true;
        } catch (ClassNotFoundException | LinkageError error) {
            return false;
        }
    }
}
