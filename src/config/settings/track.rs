//! What `[[track]]` and `[[notify]]` amount to.

use rustls_pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// One thing that is watched, and what it does to the routers it speaks about.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracker {
    /// Unique.
    pub name: String,
    pub kind: TrackerKind,
    /// Names of virtual routers.
    pub routers: Vec<String>,
    pub effect: Effect,
    /// Good is bad and bad is good.
    pub is_inverted: bool,
    /// Results in a row that make it good, and bad; at least 1.
    pub rise: u32,
    pub fall: u32,
    pub interval: Duration,
    pub timeout: Duration,
    pub up_delay: Duration,
    pub down_delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Bad: the router cannot hold its addresses.
    Fault,
    /// Positive: added while good. Negative: added while bad. Never 0.
    Weight(i16),
}

#[derive(Debug, Clone, PartialEq)]
pub enum TrackerKind {
    Link {
        interface: String,
    },
    /// Lyre's own worker. At most one of these speaks about a router; none means that the worker does not matter to it.
    Proxy,
    BackendPool {
        pool: String,
        min: u32,
    },
    Gateway {
        address: IpAddr,
        interface: String,
    },
    Http(HttpCheck),
    Script {
        command: Command,
        user: Option<String>,
    },
    Process {
        which: ProcessMatch,
        min: u32,
    },
    File {
        path: PathBuf,
        mode: FileMode,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    pub address: SocketAddr,
    /// Begins with a slash.
    pub path: String,
    /// The Host field.
    pub host: String,
    pub status: RangeInclusive<u16>,
    /// For `https`.
    pub tls: Option<TlsCheck>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsCheck {
    /// Whom the certificate must be for.
    pub name: ServerName<'static>,
    pub trust: TlsTrust,
}

/// Who may have issued the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsTrust {
    /// Whom this host trusts.
    System,
    /// PEM.
    Roots(Vec<u8>),
    /// It is not checked at all.
    Nobody,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessMatch {
    /// As the kernel names it, or the last part of its first argument.
    Name(String),
    /// All arguments, exactly.
    CommandLine(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    Number,
    Exists,
    Absent,
}

/// A program and its arguments; no shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Absolute.
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

/// Who is told of changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    pub about: About,
    pub any: Option<Command>,
    pub active: Option<Command>,
    pub backup: Option<Command>,
    pub fault: Option<Command>,
    pub stop: Option<Command>,
    pub contested: Option<Command>,
    pub fifo: Option<PathBuf>,
    /// Reads the FIFO for as long as this process runs; gets its path as last argument.
    pub fifo_script: Option<Command>,
    pub removal: Removal,
    /// The FIFO gets a line for each change of a priority, too.
    pub has_priority_changes: bool,
    pub user: Option<String>,
    pub timeout: Duration,
}

/// What somebody is told about. Scripts hear of routers or of sync groups, not of both, because those of one state get no
/// arguments and could not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// Every router; the FIFO also hears of every sync group.
    All,
    Routers(Vec<String>),
    Groups(Vec<String>),
}

/// What a router that a reload removes is told of as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// As at the end.
    Stop,
    /// As `DELETED`, after this script.
    Deleted(Option<Command>),
}

impl TrackerKind {
    /// As it is written.
    pub fn name(&self) -> &'static str {
        match self {
            TrackerKind::Link { .. } => "link",
            TrackerKind::Proxy => "proxy",
            TrackerKind::BackendPool { .. } => "backend_pool",
            TrackerKind::Gateway { .. } => "gateway",
            TrackerKind::Http(_) => "http",
            TrackerKind::Script { .. } => "script",
            TrackerKind::Process { .. } => "process",
            TrackerKind::File { .. } => "file",
        }
    }
}
