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
    private static final String GPU_OPTIONS = "org.tensorflow.lite.gpu.GpuDelegateFactory$Options";

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
            if (delegate.key().equals(name)) {
                return delegate;
            }
        }
        throw new BundleException("delegate: expected one of " + available().toString().toLowerCase(Locale.ROOT)
                + ", got '" + name + "'");
    }

    /** The name by which {@link #named} knows it. */
    String key() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** LiteRT's own GPU delegate, in float32: half precision, its default, would not hold against golden vectors. */
    static org.tensorflow.lite.Delegate newGpu() throws BundleException {
        try {
            Class<?> options = Class.forName(GPU_OPTIONS);
            Object exact = options.getMethod("setPrecisionLossAllowed", boolean.class)
                    .invoke(options.getConstructor().newInstance(), false);
            return (org.tensorflow.lite.Delegate) Class.forName(GPU_CLASS).getConstructor(options).newInstance(exact);
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
