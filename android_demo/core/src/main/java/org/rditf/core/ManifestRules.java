package org.rditf.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** What a manifest must keep to so that its bundle can be run. */
final class ManifestRules {
    private static final String LOGITS = "logits";
    private static final String FEATURES = "features";
    /** No tensor of a network for a phone is larger; keeps sizes within an int. */
    private static final long MOST_ELEMENTS = 1L << 26;

    private ManifestRules() {}

    static void check(Manifest manifest) throws BundleException {
        int exits = manifest.exits();
        require(exits >= 1 && manifest.stages.size() == exits, "stages: expected one for each exit");
        for (int index = 0; index < exits; index++) {
            String name = index == exits - 1 ? "main" : "branch_" + (index + 1);
            require(manifest.exitNames.get(index).equals(name), "exit_names: expected branch_1, …, main");
        }
        require(manifest.labels.size() >= 2, "labels: expected two classes or more");
        ExitPolicy.checkThresholds(manifest.policy, manifest.thresholds(), exits);
        double[] macs = manifest.executedMacs();
        require(macs.length == exits && positive(macs) && positive(manifest.backboneExecutedMacs),
                "costs: expected numbers above 0, one for each exit");
        require(manifest.goldenImages >= 1 && positive(manifest.goldenTolerance),
                "golden: expected one image or more and a tolerance above 0");
        Set<String> names = new HashSet<>();
        for (FileEntry file : manifest.files()) {
            require(names.add(file.name), "file name '" + file.name + "': expected each once");
        }
        checkStages(manifest);
        checkPiece("unsplit", manifest.unsplit, "image", imageShape(manifest), manifest.exitNames);
        for (TensorSpec logits : manifest.unsplit.outputs) {
            require(sameShape(logits.shape, new int[] {1, manifest.labels.size()}), "unsplit: logits of another shape");
        }
    }

    private static void checkStages(Manifest manifest) throws BundleException {
        int[] given = imageShape(manifest);
        TensorSpec before = null;
        for (int index = 0; index < manifest.exits(); index++) {
            boolean first = index == 0;
            boolean last = index == manifest.exits() - 1;
            Piece stage = manifest.stages.get(index);
            String place = "stages[" + index + "]";
            List<String> outputs = last ? Arrays.asList(LOGITS) : Arrays.asList(LOGITS, FEATURES);
            checkPiece(place, stage, first ? "image" : FEATURES, given, outputs);
            require(first == (stage.handover == Piece.Handover.IMAGE),
                    place + ".handover: expected image for the first stage only");
            require(sameShape(stage.output(LOGITS).shape, new int[] {1, manifest.labels.size()}),
                    place + ": expected logits of one number for each label");
            require(stage.handover != Piece.Handover.DIRECT || before.isInt8() == stage.input.isInt8(),
                    place + ": cannot take another dtype directly");
            before = stage.output(FEATURES);
            given = last ? null : before.shape;
        }
    }

    private static void checkPiece(String place, Piece piece, String input, int[] shape, List<String> outputs)
            throws BundleException {
        require(piece.input.name.equals(input) && sameShape(piece.input.shape, shape),
                place + ": expected input '" + input + "' of shape " + Arrays.toString(shape) + ", got '"
                        + piece.input.name + "' of " + Arrays.toString(piece.input.shape));
        List<String> found = new ArrayList<>();
        for (TensorSpec tensor : piece.outputs) {
            found.add(tensor.name);
            checkShape(place, tensor);
        }
        require(found.size() == outputs.size() && new HashSet<>(found).equals(new HashSet<>(outputs)),
                place + ": expected outputs " + outputs + ", got " + found);
        checkShape(place, piece.input);
    }

    private static void checkShape(String place, TensorSpec tensor) throws BundleException {
        long elements = 1;
        boolean fits = tensor.shape.length >= 2 && (tensor.shape[0] == 1 || tensor.shape[0] == -1);
        for (int axis = 1; fits && axis < tensor.shape.length; axis++) {
            elements *= tensor.shape[axis];
            fits = tensor.shape[axis] >= 1 && elements <= MOST_ELEMENTS;
        }
        require(fits && tensor.position >= 0, place + ": " + tensor.name + ": unusable shape or position");
    }

    private static int[] imageShape(Manifest manifest) {
        Preprocessing image = manifest.preprocessing;
        return new int[] {1, image.height, image.width, image.channels};
    }

    /** Whether two shapes are the same but for the batch axis. */
    private static boolean sameShape(int[] one, int[] other) {
        return one.length == other.length
                && Arrays.equals(Arrays.copyOfRange(one, 1, one.length), Arrays.copyOfRange(other, 1, other.length));
    }

    private static boolean positive(double... numbers) {
        for (double number : numbers) {
            if (!(number > 0 && number < Double.POSITIVE_INFINITY)) {
                return false;
            }
        }
        return true;
    }

    private static void require(boolean holds, String message) throws BundleException {
        if (!holds) {
            throw new BundleException(Manifest.FILE + ": " + message);
        }
    }
}
