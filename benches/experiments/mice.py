"""(h) Real phenotypes: both stopping times and both ways to choose a depth, by their predictions of other people's folds."""
import subprocess

import numpy as np
import pandas as pd

DEPTHS = (1, 2, 4)


def run(options):
    """20 phenotypes of 1,814 mice with `--folds 5`: `options.mice` has features.parquet, phenotypes.parquet and covariates.parquet."""
    found = {}
    for stop in ("reml", "loo"):
        out = options.scratch / f"mice-{stop}"
        subprocess.run([options.ntkpipe, "run", "--quiet", "--folds", "5", "--stop", stop, "--choose", stop, "--depth", ",".join(map(str, DEPTHS)),
                        *(word for name in ("features", "phenotypes", "covariates") for word in (f"--{name}", options.mice / f"{name}.parquet")),
                        "--out", out], check=True)
        found[stop] = pd.read_parquet(out / "architectures.parquet")
        options.say(f"--stop {stop}")
    rows = []
    for name in dict.fromkeys(found["reml"].phenotype):
        of = {stop: table[table.phenotype == name].set_index("architecture").loc[[f"relu-{depth}" for depth in DEPTHS]]
              for stop, table in found.items()}
        row = {"phenotype": name, "n": int(of["reml"].n_samples.iloc[0])}
        two = of["reml"].loc["relu-2"]
        row.update({key: None if pd.isna(two[key]) else float(two[key]) for key in ("t_hat", "t_loo", "loo_r2", "loo_r2_best")})
        for stop, table in of.items():
            row[stop] = {str(depth): float(r2) for depth, r2 in zip(DEPTHS, table.out_of_sample_r2)}
            for choice, key in (("likelihood", "reml_ratio"), ("loo", "loo_r2" if stop == "reml" else "loo_r2_best")):
                values = table[key].to_numpy(float, na_value=np.nan)
                row[f"{choice}, stop {stop}"] = None if np.isnan(values).all() else int(DEPTHS[np.nanargmax(values)])
        rows.append(row)
    options.save({"rows": rows})
