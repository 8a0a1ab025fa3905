package org.rditf.demo;

import android.content.res.AssetFileDescriptor;
import android.content.res.AssetManager;
import java.io.Closeable;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import org.rditf.core.Bundle;
import org.rditf.core.BundleException;
import org.rditf.core.FolderSource;
import org.rditf.core.Piece;
import org.rditf.core.StageLoader;
import org.rditf.core.StageRunner;
import org.rditf.core.Steps;
import org.rditf.core.TensorSpec;
import org.tensorflow.lite.Interpreter;
import org.tensorflow.lite.Tensor;

/** Runs model files with LiteRT's Interpreter, memory-mapped from the app's assets or from a folder. */
final class LiteRtLoader implements StageLoader {
    private final AssetManager assets;
    private final Delegate delegate;
    private final int threads;

    LiteRtLoader(AssetManager assets, Delegate delegate, int threads) {
        this.assets = assets;
        this.delegate = delegate;
        this.threads = threads;
    }

    @Override
    public StageRunner load(Bundle bundle, Piece piece) throws BundleException {
        try {
            return new Runner(map(bundle, piece.file.name), piece);
        } catch (IOException | IllegalArgumentException | IllegalStateException | LinkageError error) {
            throw new BundleException(piece.file.name + ": LiteRT cannot load it: " + error.getMessage(), error);
        }
    }

    @Override
    public String delegate() {
        return "LiteRT Interpreter on Android, " + delegate.name().toLowerCase(Locale.ROOT);
    }

    @Override
    public int threads() {
        return threads;
    }

    private MappedByteBuffer map(Bundle bundle, String file) throws IOException {
        if (bundle.source instanceof FolderSource) {
            try (FileInputStream stream = new FileInputStream(new File(((FolderSource) bundle.source).folder, file))) {
                FileChannel channel = stream.getChannel();
                return channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size());
            }
        }
        // Works because the build stores models uncompressed.
        try (AssetFileDescriptor place = assets.openFd(((AssetSource) bundle.source).path(file));
                FileInputStream stream = new FileInputStream(place.getFileDescriptor())) {
            return stream.getChannel().map(FileChannel.MapMode.READ_ONLY, place.getStartOffset(), place.getLength());
        }
    }

    private final class Runner implements StageRunner {
        private final Piece piece;
        private final Interpreter interpreter;
        private final org.tensorflow.lite.Delegate gpu;

        Runner(MappedByteBuffer file, Piece piece) throws BundleException {
            this.piece = piece;
            gpu = delegate == Delegate.GPU ? Delegate.newGpu() : null;
            Interpreter made = null;
            try {
                made = new Interpreter(file, options());
                made.allocateTensors();
                check(made);
            } catch (BundleException | RuntimeException | LinkageError error) {
                close(made); // nobody else would: the memory is not Java's
                throw error;
            }
            interpreter = made;
        }

        private Interpreter.Options options() {
            Interpreter.Options options = new Interpreter.Options();
            options.setNumThreads(threads).setUseXNNPACK(delegate == Delegate.XNNPACK);
            return gpu == null ? options : options.addDelegate(gpu);
        }

        private void check(Interpreter made) throws BundleException {
            check(made, piece.input, true);
            for (TensorSpec output : piece.outputs) {
                check(made, output, false);
            }
        }

        private void check(Interpreter made, TensorSpec wanted, boolean input) throws BundleException {
            int count = input ? made.getInputTensorCount() : made.getOutputTensorCount();
            String place = piece.file.name + ": " + wanted.name;
            if (wanted.position >= count) {
                throw new BundleException(place + ": the file has " + count + " such tensors");
            }
            Tensor found = input ? made.getInputTensor(wanted.position) : made.getOutputTensor(wanted.position);
            int bytes = wanted.elements() * (wanted.isInt8() ? 1 : 4);
            if (found.numBytes() != bytes) {
                throw new BundleException(place + ": the manifest says " + bytes + " bytes, the file "
                        + found.numBytes());
            }
        }

        @Override
        public Steps run(ByteBuffer input, Map<String, ByteBuffer> outputs) {
            long begun = System.nanoTime();
            interpreter.runForMultipleInputsOutputs(new Object[] {input}, new HashMap<Integer, Object>());
            long computed = System.nanoTime();
            for (Map.Entry<String, ByteBuffer> output : outputs.entrySet()) {
                output.getValue().clear();
                Tensor tensor = interpreter.getOutputTensor(piece.output(output.getKey()).position);
                output.getValue().put(tensor.asReadOnlyBuffer());
            }
            long invoke = interpreter.getLastNativeInferenceDurationNanoseconds();
            return new Steps(Math.max(0, computed - begun - invoke), invoke, System.nanoTime() - computed);
        }

        @Override
        public void close() {
            close(interpreter);
        }

        private void close(Interpreter made) {
            if (made != null) {
                made.close();
            }
            if (gpu instanceof Closeable) {
                closeGpu((Closeable) gpu);
            }
        }

        private void closeGpu(Closeable closeable) {
            try {
                closeable.close();
            } catch (IOException error) {
                throw new IllegalStateException(error);
            }
        }
    }
}
