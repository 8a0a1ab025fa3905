package org.rditf.core;

import java.io.Closeable;
import java.nio.ByteBuffer;
import java.util.Map;

/** One model file, loaded by whatever runtime there is. For one thread at a time. */
public interface StageRunner extends Closeable {
    /**
     * Runs the file on one image.
     *
     * @param input bytes of the input tensor, whole buffer, in the machine's byte order; left as it is
     * @param outputs a buffer for each output that is wanted, by name; filled from its start
     * @return how long it took
     */
    Steps run(ByteBuffer input, Map<String, ByteBuffer> outputs) throws BundleException;

    @Override
    void close();
}
