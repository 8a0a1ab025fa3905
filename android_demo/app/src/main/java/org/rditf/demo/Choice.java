package org.rditf.demo;

import android.os.Bundle;
import android.os.Parcel;
import android.os.Parcelable;
import org.rditf.core.Preprocessing;

/** What the user has chosen; survives rotation and the end of the process. */
final class Choice implements Parcelable {
    private static final String KEY = "choice";
    /** The slider's right end: no deadline. */
    static final int NO_DEADLINE = 100;

    public static final Creator<Choice> CREATOR = new Creator<Choice>() {
        @Override
        public Choice createFromParcel(Parcel parcel) {
            return new Choice(parcel);
        }

        @Override
        public Choice[] newArray(int size) {
            return new Choice[size];
        }
    };

    String bundle;
    String version = "clean";
    int sample;
    Delegate delegate = Delegate.XNNPACK;
    int threads = 1;
    boolean invert = true;
    /** Of the slider, 0 to NO_DEADLINE. */
    int deadline = NO_DEADLINE;
    /** One for each exit but the last; null for the bundle's own. */
    double[] thresholds;
    /** A picture of the user's, ARGB, already in the network's size; null while a sample is shown. */
    int[] picture;
    int pictureWidth;
    /** Where a picture is that was picked and is not read yet; null if there is none. */
    String reading;
    /** Whether that picture was drawn, and so is light on dark already. */
    boolean drawn;

    Choice() {}

    private Choice(Parcel parcel) {
        bundle = parcel.readString();
        version = parcel.readString();
        sample = parcel.readInt();
        delegate = Delegate.valueOf(parcel.readString());
        threads = parcel.readInt();
        invert = parcel.readInt() == 1;
        deadline = parcel.readInt();
        thresholds = parcel.createDoubleArray();
        picture = parcel.createIntArray();
        pictureWidth = parcel.readInt();
        reading = parcel.readString();
        drawn = parcel.readInt() == 1;
    }

    /** Whether a picture is to be turned into its negative: for networks that know light ink on dark ground, in grey. */
    boolean inverts(Preprocessing preprocessing) {
        return invert && !drawn && preprocessing.channels == 1;
    }

    static Choice from(Bundle state) {
        if (state == null) {
            return new Choice();
        }
        state.setClassLoader(Choice.class.getClassLoader());
        Choice saved = state.getParcelable(KEY);
        return saved == null ? new Choice() : saved;
    }

    void save(Bundle state) {
        state.putParcelable(KEY, this);
    }

    /** Milliseconds that the slider stands for: 0.01 to 100, in even ratios. */
    double deadlineMs() {
        return deadline >= NO_DEADLINE ? Double.POSITIVE_INFINITY : 0.01 * Math.pow(10, 4.0 * deadline / NO_DEADLINE);
    }

    @Override
    public int describeContents() {
        return 0;
    }

    @Override
    public void writeToParcel(Parcel parcel, int flags) {
        parcel.writeString(bundle);
        parcel.writeString(version);
        parcel.writeInt(sample);
        parcel.writeString(delegate.name());
        parcel.writeInt(threads);
        parcel.writeInt(invert ? 1 : 0);
        parcel.writeInt(deadline);
        parcel.writeDoubleArray(thresholds);
        parcel.writeIntArray(picture);
        parcel.writeInt(pictureWidth);
        parcel.writeString(reading);
        parcel.writeInt(drawn ? 1 : 0);
    }
}
