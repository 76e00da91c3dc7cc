//! What the demo breaks, and what "survived" means for each.

use std::fmt;
use std::time::Duration;

/// One way to break the pair. The order is the order of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Fault {
    /// The cable of the node that holds the address is pulled.
    Cable,
    /// That node loses power: nothing of it answers, says goodbye or closes a connection.
    Node,
    /// Its worker process is killed (SIGKILL).
    WorkerCrash,
    /// Its worker process stops without dying (SIGSTOP): the kernel still accepts connections for it.
    WorkerHang,
    /// The operator moves the address: `lyre failover`.
    Planned,
    /// One of the two web servers behind the pair is killed.
    Web,
}

/// What a fault may cost before it counts as not survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Longest time without an answer.
    pub gap_max: Duration,
    /// Requests without a complete answer.
    pub lost_max: u64,
}

/// Scheduling slack added to every bound unless told otherwise: the demo shares its cores with its own load and with
/// whatever else the machine does, and a bound that decides over "survived" must not fail on a busy laptop.
pub const SLACK_MS: u64 = 400;

/// Requests that may be on the wire to one node or server at one moment: every keep-alive client has one, and so do the
/// single-request clients whose answer takes a few milliseconds.
const IN_FLIGHT_MAX: u64 = 32;

impl Fault {
    pub const ALL: [Fault; 6] =
        [Fault::Cable, Fault::Node, Fault::WorkerCrash, Fault::WorkerHang, Fault::Planned, Fault::Web];

    /// As typed after `--fault` and as printed.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Cable => "cable",
            Fault::Node => "node",
            Fault::WorkerCrash => "worker-crash",
            Fault::WorkerHang => "worker-hang",
            Fault::Planned => "planned",
            Fault::Web => "web",
        }
    }

    /// For the line that announces it.
    pub fn sentence(self) -> &'static str {
        match self {
            Fault::Cable => "pulling the cable of the node that holds the address",
            Fault::Node => "cutting the power of the node that holds the address",
            Fault::WorkerCrash => "killing the worker process of the node that holds the address",
            Fault::WorkerHang => "freezing the worker process of the node that holds the address",
            Fault::Planned => "moving the address on purpose (lyre failover)",
            Fault::Web => "killing one of the two web servers",
        }
    }

    /// Whether the address must be on the other node afterwards. A worker that crashes may also be back before a
    /// hand-over pays, and a web server is no business of the address.
    pub fn moves_address(self) -> bool {
        match self {
            Fault::Cable | Fault::Node | Fault::Planned => true,
            Fault::WorkerCrash | Fault::WorkerHang | Fault::Web => false,
        }
    }

    /// The cost allowed at `advert_interval` with `rate` requests a second on a machine this busy.
    pub fn bound(self, advert_interval: Duration, rate: u32, slack: Duration) -> Bound {
        // Silence is noticed after three adverts and the skew (less than one); the cut may come right after an advert.
        let detection = advert_interval * 5;
        let gap_max = slack
            + match self {
                Fault::Cable | Fault::Node => detection,
                // Seen through the pidfd; then one advert exchange.
                Fault::WorkerCrash => advert_interval * 2,
                // `hang_timeout` (500 ms), its sampling, then one advert exchange.
                Fault::WorkerHang => Duration::from_millis(700) + advert_interval * 2,
                // The holder keeps answering until the other one does.
                Fault::Planned => advert_interval,
                // The other server answers all the time.
                Fault::Web => Duration::ZERO,
            };
        let during = |gap: Duration| (gap.as_secs_f64() * f64::from(rate)).ceil() as u64;
        let lost_max = match self {
            Fault::Planned => 0,
            // New connections are tried again by the client's kernel or refused for at most the gap.
            Fault::Cable | Fault::Node | Fault::WorkerCrash | Fault::WorkerHang => IN_FLIGHT_MAX + during(gap_max),
            Fault::Web => IN_FLIGHT_MAX,
        };
        Bound { gap_max, lost_max }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn the_command_line_knows_every_fault_by_its_printed_name() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_str(fault.name(), false), Ok(fault));
        }
    }

    #[test]
    fn a_planned_move_may_lose_nothing_at_any_rate() {
        assert_eq!(Fault::Planned.bound(Duration::from_millis(100), 100_000, Duration::from_secs(9)).lost_max, 0);
    }
}
