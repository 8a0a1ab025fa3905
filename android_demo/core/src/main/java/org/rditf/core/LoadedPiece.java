package org.rditf.core;

import java.nio.ByteBuffer;
import java.util.LinkedHashMap;
import java.util.Map;

/** A model file with its buffers. */
final class LoadedPiece {
    final Piece piece;
    /** Nanoseconds that loading took. */
    final long loadNanos;
    private final StageRunner runner;
    private final ByteBuffer input;
    private final Map<String, ByteBuffer> outputs = new LinkedHashMap<>();

    LoadedPiece(Bundle bundle, Piece piece, StageLoader loader) throws BundleException {
        this.piece = piece;
        input = piece.input.newBuffer();
        for (TensorSpec tensor : piece.outputs) {
            outputs.put(tensor.name, tensor.newBuffer());
        }
        long begun = System.nanoTime();
        runner = loader.load(bundle, piece);
        loadNanos = System.nanoTime() - begun;
    }

    /** Runs it on an image. */
    Steps runOnImage(float[] image) throws BundleException {
        long begun = System.nanoTime();
        piece.input.write(image, input);
        return run(input, System.nanoTime() - begun);
    }

    /** Runs it on the features that the stage before it gave in its last run. */
    Steps runAfter(LoadedPiece before) throws BundleException {
        long begun = System.nanoTime();
        ByteBuffer given = before.outputs.get("features");
        if (piece.handover == Piece.Handover.DIRECT) {
            return run(given, System.nanoTime() - begun);
        }
        piece.input.write(before.piece.output("features").read(given), input);
        return run(input, System.nanoTime() - begun);
    }

    private Steps run(ByteBuffer bytes, long preparing) throws BundleException {
        bytes.clear();
        Steps steps = runner.run(bytes, outputs);
        return new Steps(preparing + steps.feed, steps.invoke, steps.fetch);
    }

    /** Numbers of an output of the last run. */
    float[] numbers(String output) {
        return piece.output(output).read(outputs.get(output));
    }

    void close() {
        runner.close();
    }
}
