"""Networks under attack: suites, what is measured, what makes a figure doubtful, what a run folder keeps."""
