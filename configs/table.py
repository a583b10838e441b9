"""Anyone's images with a table: a class, several labels or numbers for each file.

    python -m experiments.transfer --config=configs/table.py --config.task.path=mine.csv \
        --config.task.labels=tags --config.objective=several_labels
    python -m experiments.transfer --config=configs/table.py --config.task.path=mine.csv \
        --config.task.numbers=age --config.objective=regression --config.task.group=patient

The table is CSV, TSV, JSON lines or Parquet, with a column `image` of files beside it; without
labels= and numbers= its column `label` has the class. --config.objective=ordinal is for classes in
order (task.order).
"""

from configs import folder


def get_config():
    config = folder.get_config()
    config.task.name = "table"
    return config
