//! One virtual router: RFC 9568 §6 as a value. `handle` one input, drain `poll`, sleep until `deadline`.
//!
//! The machine never calls out: no sockets, no clock, no logging. The runner obeys its actions in order.

use crate::packet::{Advert, Family};
use crate::params::{Centis, Priority, Time, Vrid};
use std::net::IpAddr;
use std::time::Duration;

/// Whether a Backup takes the address from a living Active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preempt {
    /// Only from an Active that says it is degraded (priority at most [`DEGRADED_MAX`]). Lyre's default: healthy
    /// nodes never take the address from each other.
    Never,
    /// From any lower priority, after it was heard for this long (RFC 9568 §6.1 with keepalived's delay).
    After(Duration),
}

/// Highest advert priority that means "I serve, but badly; take over if you are well".
pub const DEGRADED_MAX: Priority = Priority(9);

#[derive(Debug, Clone)]
pub struct Settings {
    pub vrid: Vrid,
    pub family: Family,
    /// 1..=254, or 255 for the owner of the addresses.
    pub priority: Priority,
    pub advert_interval: Centis,
    /// Adverts that may be missed before the Active counts as down; 3 in the RFC and in keepalived.
    pub down_adverts: u8,
    pub preempt: Preempt,
    /// The addresses carried in adverts, in order. Never empty.
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// The link is usable and this is our advert source address (start, link back, address changed).
    LinkUp { source: IpAddr },
    /// No carrier, no interface, or no source address.
    LinkDown,
    /// A checked advert of our VRID from another sender; `received` is the kernel's receive time.
    Advert { advert: &'a Advert, source: IpAddr, received: Time },
    /// The deadline passed. All queued adverts were handed in before.
    Tick,
    /// What this node is able to do changed.
    Health(Health),
    /// Planned: hand the address to a peer, keep it until the peer is heard, then stay Backup until `Resume`.
    HandOver,
    /// Take part again after `HandOver`.
    Resume,
    /// Somebody else removed one of our virtual addresses from the interface.
    AddressLost,
    /// At start: our virtual addresses are already on the interface (we crashed while Active).
    AddressFound,
    /// Process end: release the address.
    Shutdown,
}

/// What the node is able to do; decided outside, followed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Serves well: base priority.
    Able,
    /// Serves, but badly (no healthy web server): advertises at most [`DEGRADED_MAX`], keeps the node order.
    Degraded,
    /// Cannot serve (worker dead or hung): yields the address to whoever is there, keeps it while nobody is.
    Unable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send one advert with this priority now.
    Send { priority: Priority },
    /// Put all virtual addresses on the interface, with the lease.
    Install,
    /// Extend the lease of installed addresses.
    Refresh,
    /// Take all virtual addresses off the interface.
    Withdraw,
    /// Send one gratuitous ARP (both forms) or unsolicited NA per virtual address.
    Announce,
    /// Tell the owner of the speaker.
    Report(Event),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not participating: no link, or not started (RFC 9568 "Initialize").
    Initialize,
    Backup,
    Active,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Transition {
        from: State,
        to: State,
        reason: Reason,
    },
    /// We are Active and heard an advert that loses against ours (split brain, or the other has not yielded yet).
    LosingAdvert {
        source: IpAddr,
        priority: Priority,
    },
    /// The send path woke up this late while Active.
    Stalled {
        late: Duration,
    },
}

/// Why the state changed; one word for logs, status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Started,
    LinkUp,
    LinkDown,
    /// The Active fell silent.
    ActiveDown,
    /// The Active released the address (priority 0).
    Released,
    /// A better advert was heard.
    Outranked,
    /// We outranked a living Active.
    Preempted,
    /// We handed over as planned.
    HandedOver,
    /// We could not serve and somebody took over.
    Yielded,
    /// We woke from a stall and somebody else is Active.
    Stalled,
    AddressFlapping,
    Shutdown,
}
