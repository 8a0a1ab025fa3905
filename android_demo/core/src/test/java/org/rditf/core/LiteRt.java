package org.rditf.core;

import com.sun.jna.Function;
import com.sun.jna.Memory;
import com.sun.jna.NativeLibrary;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.PointerByReference;
import java.io.File;
import java.nio.ByteBuffer;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * LiteRT's C interface through JNA: runs the real stage files on the JVM, without a device.
 *
 * <p>The library is the one in the Python wheel ai-edge-litert (2.3), so Java and Python run the same code.
 */
public final class LiteRt implements StageLoader {
    private static final int CPU = 1;
    private static final int READ = 0;
    private static final int WRITE = 1;
    /** Larger than the structure that describes a tensor's type; its layout need not be known here. */
    private static final int TYPE_BYTES = 256;

    private static LiteRt loaded;

    private final NativeLibrary library;
    private final Pointer environment;

    private LiteRt(String path) {
        library = NativeLibrary.getInstance(path);
        environment = make("LiteRtCreateEnvironment", 0, null);
    }

    /** The library at a path; it is started once in a process. */
    static synchronized LiteRt at(String path) {
        if (loaded == null) {
            loaded = new LiteRt(path);
        }
        return loaded;
    }

    @Override
    public StageRunner load(Bundle bundle, Piece piece) throws BundleException {
        return load(((FolderSource) bundle.source).folder, piece);
    }

    /** A file in a folder. */
    public StageRunner load(File folder, Piece piece) throws BundleException {
        return new Runner(new File(folder, piece.file.name), piece);
    }

    @Override
    public String delegate() {
        return "LiteRT of ai-edge-litert, through JNA";
    }

    @Override
    public int threads() {
        return 1;
    }

    private void call(String name, Object... arguments) {
        int status = library.getFunction(name).invokeInt(arguments);
        if (status != 0) {
            throw new IllegalStateException(name + ": status " + status);
        }
    }

    /** Calls a function whose last argument takes the pointer that it makes. */
    private Pointer make(String name, Object... arguments) {
        PointerByReference made = new PointerByReference();
        Object[] all = java.util.Arrays.copyOf(arguments, arguments.length + 1);
        all[arguments.length] = made;
        call(name, all);
        return made.getValue();
    }

    private void destroy(String name, Pointer pointer) {
        library.getFunction(name).invoke(Void.class, new Object[] {pointer});
    }

    private final class Runner implements StageRunner {
        private final Pointer model;
        private final Pointer compiled;
        private final Pointer input;
        private final Map<String, Pointer> outputs = new LinkedHashMap<>();
        private final Memory inputs = new Memory(8);
        private final Memory outputPointers;
        private final Function run = library.getFunction("LiteRtRunCompiledModel");

        Runner(File file, Piece piece) throws BundleException {
            model = make("LiteRtCreateModelFromFile", environment, file.getPath());
            Pointer signature = make("LiteRtGetModelSignature", model, 0L);
            String key = make("LiteRtGetSignatureKey", signature).getString(0);
            if (!key.equals(piece.signature)) {
                throw new BundleException(file + ": expected signature '" + piece.signature + "', got '" + key + "'");
            }
            Pointer options = make("LiteRtCreateOptions");
            call("LiteRtSetOptionsHardwareAccelerators", options, CPU);
            compiled = make("LiteRtCreateCompiledModel", environment, model, options);
            destroy("LiteRtDestroyOptions", options);
            input = buffer(make("LiteRtGetSignatureInputTensorByIndex", signature, 0L),
                    make("LiteRtGetCompiledModelInputBufferRequirements", compiled, 0L, 0L));
            inputs.setPointer(0, input);
            int count = piece.outputs.size();
            outputPointers = new Memory(8L * count);
            for (long index = 0; index < count; index++) {
                String name = make("LiteRtGetSignatureOutputName", signature, index).getString(0);
                Pointer output = buffer(make("LiteRtGetSignatureOutputTensorByIndex", signature, index),
                        make("LiteRtGetCompiledModelOutputBufferRequirements", compiled, 0L, index));
                outputs.put(name, output);
                outputPointers.setPointer(8 * index, output);
            }
        }

        private Pointer buffer(Pointer tensor, Pointer requirements) {
            Memory type = new Memory(TYPE_BYTES);
            type.clear();
            call("LiteRtGetRankedTensorType", tensor, type);
            return make("LiteRtCreateManagedTensorBufferFromRequirements", environment, type, requirements);
        }

        @Override
        public Steps run(ByteBuffer bytes, Map<String, ByteBuffer> wanted) {
            long begun = System.nanoTime();
            lock(input, WRITE).put(bytes.duplicate());
            call("LiteRtUnlockTensorBuffer", input);
            long fed = System.nanoTime();
            int status = run.invokeInt(new Object[] {compiled, 0L, 1L, inputs, (long) outputs.size(), outputPointers});
            if (status != 0) {
                throw new IllegalStateException("LiteRtRunCompiledModel: status " + status);
            }
            long invoked = System.nanoTime();
            for (Map.Entry<String, ByteBuffer> output : wanted.entrySet()) {
                ByteBuffer into = output.getValue();
                into.clear();
                Pointer tensor = outputs.get(output.getKey());
                ByteBuffer from = lock(tensor, READ);
                from.limit(into.capacity());
                into.put(from);
                call("LiteRtUnlockTensorBuffer", tensor);
            }
            return new Steps(fed - begun, invoked - fed, System.nanoTime() - invoked);
        }

        private ByteBuffer lock(Pointer tensor, int mode) {
            com.sun.jna.ptr.NativeLongByReference size = new com.sun.jna.ptr.NativeLongByReference();
            call("LiteRtGetTensorBufferPackedSize", tensor, size);
            PointerByReference address = new PointerByReference();
            call("LiteRtLockTensorBuffer", tensor, address, mode);
            return address.getValue().getByteBuffer(0, size.getValue().longValue());
        }

        @Override
        public void close() {
            destroy("LiteRtDestroyTensorBuffer", input);
            for (Pointer output : outputs.values()) {
                destroy("LiteRtDestroyTensorBuffer", output);
            }
            destroy("LiteRtDestroyCompiledModel", compiled);
            destroy("LiteRtDestroyModel", model);
        }
    }
}
