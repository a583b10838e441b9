"""Mix finished runs into one network, the mean of their weights: a model soup.

    python -m experiments.soup --out=soup.safetensors runs/mine_lr1 runs/mine_lr2 runs/mine_lr3

The runs differ in their settings, not in data and splits. From the best on validation down, a run
is added where validation does not fall; --uniform mixes all. The soup is then tested once; load it
with `tl_jax.load_base("soup.safetensors")`.
"""

from absl import flags

from experiments import cli, out_flag
from experiments.out_flag import OUT
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

flags.adopt_module_key_flags(out_flag)
_UNIFORM = flags.DEFINE_bool("uniform", False, "Mix all runs, whatever validation says.")
_METRIC = flags.DEFINE_string("metric", "weighted_accuracy", "By which runs are chosen.")


def main(argv: list[str]) -> None:
    from tl_jax.report.text import percent
    from tl_jax.runs import judge, several, soup

    runs, out = [path_of(run) for run in argv[1:]], path_of(OUT.value or "soup.safetensors")
    if not runs:
        raise UserError("which runs? python -m experiments.soup runs/mine_lr1 runs/mine_lr2")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out={out} cannot be written: name a file in a folder that exists")
    parts = soup.ingredients(runs, metric=_METRIC.value)
    task = several.task_of(runs[0])
    mix = soup.uniform if _UNIFORM.value else soup.greedy
    mixed = mix(parts, task, metric=_METRIC.value)
    shown = "{:.4f}".format if _METRIC.value == "loss" else percent
    for part in parts:
        print(f"{part.run}\tval {shown(part.val)}\t{'in' if part.run in mixed.kept else 'out'}")
    tested = judge.judged(mixed.base, task, "test")[_METRIC.value]
    mixed.base.save(out)
    print(f"soup of {len(mixed.kept)}: val {shown(mixed.val)}, test {shown(tested)}, {out}")


if __name__ == "__main__":
    cli.run(main)
