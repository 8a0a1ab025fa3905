package org.rditf.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** All of a bundle but the bytes of its files. docs/bundle.md describes every entry. */
public final class Manifest {
    public static final String FILE = "manifest.json";
    /** The newest version of the description that is known here. */
    public static final int FORMAT = 1;

    public final String name;
    public final String dtype;
    public final List<String> labels;
    /** "branch_1", …, "main". */
    public final List<String> exitNames;
    public final Preprocessing preprocessing;
    /** One for each exit, in order. */
    public final List<Piece> stages;
    public final Piece unsplit;
    public final ExitPolicy policy;
    private final double[] thresholds;
    private final double[] executedMacs;
    public final double backboneExecutedMacs;
    public final FileEntry goldenFile;
    public final int goldenImages;
    public final double goldenTolerance;

    Manifest(Parts parts) throws BundleException {
        name = parts.name;
        dtype = parts.dtype;
        labels = frozen(parts.labels);
        exitNames = frozen(parts.exitNames);
        preprocessing = parts.preprocessing;
        stages = frozen(parts.stages);
        unsplit = parts.unsplit;
        policy = ExitPolicy.named(parts.policyName);
        thresholds = parts.thresholds;
        executedMacs = parts.executedMacs;
        backboneExecutedMacs = parts.backboneExecutedMacs;
        goldenFile = parts.goldenFile;
        goldenImages = parts.goldenImages;
        goldenTolerance = parts.goldenTolerance;
        ManifestRules.check(this);
    }

    /** Reads a manifest.json; text that is none, is newer, or does not fit together throws. */
    public static Manifest parse(String json) throws BundleException {
        return new Manifest(ManifestJson.read(json));
    }

    public int exits() {
        return exitNames.size();
    }

    /** One for each exit but the last. */
    public double[] thresholds() {
        return thresholds.clone();
    }

    /** Multiply-adds up to each exit. */
    public double[] executedMacs() {
        return executedMacs.clone();
    }

    /** Every file of the bundle but the manifest. */
    public List<FileEntry> files() {
        List<FileEntry> files = new ArrayList<>();
        for (Piece stage : stages) {
            files.add(stage.file);
        }
        files.add(unsplit.file);
        files.add(goldenFile);
        return files;
    }

    private static <T> List<T> frozen(List<T> values) {
        return Collections.unmodifiableList(new ArrayList<>(values));
    }

    /** What a manifest is made of, as it was read. */
    static final class Parts {
        String name;
        String dtype;
        List<String> labels;
        List<String> exitNames;
        Preprocessing preprocessing;
        List<Piece> stages;
        Piece unsplit;
        String policyName;
        double[] thresholds;
        double[] executedMacs;
        double backboneExecutedMacs;
        FileEntry goldenFile;
        int goldenImages;
        double goldenTolerance;
    }
}
