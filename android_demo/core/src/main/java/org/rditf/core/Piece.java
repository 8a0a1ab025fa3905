package org.rditf.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** A model file: one stage, or the unsplit network. */
public final class Piece {
    /** Where a stage's input comes from. */
    public enum Handover {
        /** The first stage: it takes the image. */
        IMAGE,
        /** The bytes that the stage before it gave, as they are. */
        DIRECT,
        /** The numbers that the stage before it gave, in this input's quantisation. */
        REQUANTISE
    }

    public final FileEntry file;
    public final String signature;
    public final TensorSpec input;
    public final List<TensorSpec> outputs;
    public final Handover handover;

    public Piece(FileEntry file, String signature, TensorSpec input, List<TensorSpec> outputs, Handover handover) {
        this.file = file;
        this.signature = signature;
        this.input = input;
        this.outputs = Collections.unmodifiableList(new ArrayList<>(outputs));
        this.handover = handover;
    }

    /** The output of that name; null if there is none. */
    public TensorSpec output(String name) {
        for (TensorSpec tensor : outputs) {
            if (tensor.name.equals(name)) {
                return tensor;
            }
        }
        return null;
    }
}
