"""Does adaptation to an unlabelled target help, when nobody looks at the target's labels?"""

SOURCE_ONLY = "source_only"  # the method that trains on the source and never sees the target
TARGET_ONLY = "target_only"  # the one that trains on the target with its labels: a reference
