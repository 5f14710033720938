//! `ntkpipe network init`: draws a network and writes it.

use ntk::network::{Mlp, Scheme};
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::network_file::NetworkFile;

use crate::commands::args::{DrawScheme, NetworkInitArgs};
use crate::failure::input;
use crate::run::ownership::place;
use crate::stages::LAYOUT;

/// Draws a network and writes it.
pub fn init(args: &NetworkInitArgs) -> anyhow::Result<()> {
    if args.out.is_dir() {
        return Err(input(
            format!("`{}` is a folder", args.out.display()),
            "name a file with `--out`",
        ));
    }
    place::check_output(&LAYOUT, &args.out)?;
    if args.out.symlink_metadata().is_ok() && !args.overwrite {
        return Err(input(
            format!("`{}` is there already", args.out.display()),
            "name another file with `--out`, or pass `--overwrite` to replace this one",
        ));
    }
    let of_ntk = args.weight_variance.or(args.bias_variance);
    let scheme = match args.scheme {
        DrawScheme::Ntk => Scheme::Ntk {
            weight_variance: args.weight_variance.unwrap_or(2.0),
            bias_variance: args.bias_variance.unwrap_or(0.0),
        },
        _ if of_ntk.is_some() => {
            return Err(input(
                "variances are given for a scheme that has its own",
                "pass `--scheme ntk`, or leave `--weight-variance` and `--bias-variance` out",
            ));
        }
        DrawScheme::Pytorch => Scheme::Pytorch,
        DrawScheme::He => Scheme::He,
    };
    let inputs = match (args.inputs, &args.features_of) {
        (Some(inputs), _) => inputs,
        (None, Some(run)) => match FeatureArray::open(run)? {
            FeatureArray::F32(features) => features.shape()[1],
            FeatureArray::F64(features) => features.shape()[1],
        },
        (None, None) => 0,
    };
    let activation = args.activation.nonlinearity();
    let network = Mlp::draw(inputs, &args.widths, activation, scheme, args.seed)?;
    let network = match args.antisymmetric {
        true => network.antisymmetric(),
        false => network,
    };
    let mut file = NetworkFile {
        is_double: args.double,
        ..NetworkFile::new(network)
    };
    if let Some(prefix) = &args.prefix {
        for layer in &mut file.layers {
            *layer = format!("{prefix}.{layer}");
        }
    }
    Ok(file.write(&args.out)?)
}
