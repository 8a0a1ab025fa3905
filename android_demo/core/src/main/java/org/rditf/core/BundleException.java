package org.rditf.core;

/** A bundle that cannot be read, was altered, or does not do what it says. The message is for people. */
public final class BundleException extends Exception {
    private static final long serialVersionUID = 1L;

    public BundleException(String message) {
        super(message);
    }

    public BundleException(String message, Throwable cause) {
        super(message, cause);
    }
}
