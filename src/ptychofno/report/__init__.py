"""What the runs of a study show: statistics, ranking, verdict, and the pages that say so.

Run directories are read as data: nothing of them is imported, built, resolved or unpickled.
"""
