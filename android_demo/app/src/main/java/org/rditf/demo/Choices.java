package org.rditf.demo;

import android.content.Context;
import android.view.View;
import android.widget.AdapterView;
import android.widget.ArrayAdapter;
import android.widget.Spinner;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Spinners. */
final class Choices {
    interface Chosen {
        void onChosen(int index);
    }

    private Choices() {}

    /** Fills a spinner; {@code then} hears of changes only, not of the first selection. */
    static void fill(Spinner spinner, List<String> texts, int selected, final Chosen then) {
        ArrayAdapter<String> adapter = new ArrayAdapter<>(spinner.getContext(), android.R.layout.simple_spinner_item,
                texts);
        adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item);
        spinner.setOnItemSelectedListener(null);
        spinner.setAdapter(adapter);
        final int first = Math.max(0, Math.min(selected, texts.size() - 1));
        spinner.setSelection(first, false);
        spinner.setOnItemSelectedListener(new AdapterView.OnItemSelectedListener() {
            private int before = first;

            @Override
            public void onItemSelected(AdapterView<?> parent, View view, int position, long id) {
                if (position != before) {
                    before = position;
                    then.onChosen(position);
                }
            }

            @Override
            public void onNothingSelected(AdapterView<?> parent) {}
        });
    }

    /** A version of the samples in the user's language; one that the app has no word for stands as it is. */
    static String version(Context context, String version) {
        switch (version) {
            case "clean":
                return context.getString(R.string.version_clean);
            case "adversarial":
                return context.getString(R.string.version_adversarial);
            case "slowdown":
                return context.getString(R.string.version_slowdown);
            default:
                return version;
        }
    }

    static List<String> versions(Context context, List<String> versions) {
        List<String> texts = new ArrayList<>();
        for (String version : versions) {
            texts.add(version(context, version));
        }
        return texts;
    }

    static List<String> delegates(Context context, List<Delegate> delegates) {
        List<String> texts = new ArrayList<>();
        for (Delegate delegate : delegates) {
            texts.add(context.getString(delegate.label));
        }
        return texts;
    }

    static List<String> threads(Context context, int[] counts) {
        List<String> texts = new ArrayList<>();
        for (int count : counts) {
            texts.add(context.getResources().getQuantityString(R.plurals.thread_count, count, count));
        }
        return texts;
    }

    static String percent(double share) {
        return String.format(Locale.getDefault(), "%.1f", 100 * share);
    }
}
