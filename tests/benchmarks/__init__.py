"""Speed, measured as ratios side by side in one run. Not collected by pytest; run with ``make bench``."""
