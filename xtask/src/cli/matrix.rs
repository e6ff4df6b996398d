//! What may be typed for a matrix of virtio features.

use clap::Args;

use super::RunArgs;

/// The arguments of `virtio-matrix`.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// The machine, as `run` has it.
    #[command(flatten)]
    pub run: RunArgs,
    /// The largest queues: `any`, or powers of two.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "any,64,16", value_parser = queue_size)]
    pub queue_sizes: Vec<QueueSize>,
    /// Print the results as JSON on standard output.
    #[arg(long)]
    pub json: bool,
}

/// The largest size of a queue; none: as large as devices make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSize(pub Option<u16>);

fn queue_size(text: &str) -> Result<QueueSize, String> {
    if text == "any" {
        return Ok(QueueSize(None));
    }
    let size = text
        .parse()
        .ok()
        .filter(|size: &u16| size.is_power_of_two());
    size.map(|size| QueueSize(Some(size)))
        .ok_or_else(|| "write `any`, or a power of two such as 16".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_or_any() {
        assert_eq!(queue_size("any"), Ok(QueueSize(None)));
        assert_eq!(queue_size("32768"), Ok(QueueSize(Some(1 << 15))));
        for text in ["", "0", "3", "65536", "-1", "all"] {
            assert!(queue_size(text).is_err(), "{text}");
        }
    }
}
