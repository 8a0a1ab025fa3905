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
    private final Cascade.Clock clock;
    private final ByteBuffer input;
    private final Map<String, ByteBuffer> outputs = new LinkedHashMap<>();

    LoadedPiece(Bundle bundle, Piece piece, StageLoader loader, Cascade.Clock clock) throws BundleException {
        this.piece = piece;
        this.clock = clock;
        input = piece.input.newBuffer();
        for (TensorSpec tensor : piece.outputs) {
            outputs.put(tensor.name, tensor.newBuffer());
        }
        long begun = clock.nanos();
        runner = loader.load(bundle, piece);
        loadNanos = clock.nanos() - begun;
    }

    /** Runs it on an image. */
    Steps runOnImage(float[] image) throws BundleException {
        long begun = clock.nanos();
        piece.input.write(image, input);
        return run(input, clock.nanos() - begun);
    }

    /** Runs it on the features that the stage before it gave in its last run. */
    Steps runAfter(LoadedPiece before) throws BundleException {
        long begun = clock.nanos();
        ByteBuffer given = before.outputs.get("features");
        if (piece.handover == Piece.Handover.DIRECT) {
            return run(given, clock.nanos() - begun);
        }
        piece.input.write(before.piece.output("features").read(given), input);
        return run(input, clock.nanos() - begun);
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
