//! Checked runtime values. Built only by `config`; whoever holds a `Settings` need not check anything again.
//!
//! Durations are `Duration`, sizes bytes, references are indices into the vectors of this struct.

pub mod docker;
pub mod frp;
pub mod tcp;
pub mod track;
pub mod vip;

use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
pub use vip::VirtualRouter;

#[derive(Debug, Clone)]
pub struct Settings {
    /// The file this came from, for messages.
    pub source: PathBuf,
    pub cluster: Option<Cluster>,
    /// One per `[[vip]]` and address family.
    pub routers: Vec<VirtualRouter>,
    /// What the routers' health depends on, the built-in `proxy` included.
    pub trackers: Vec<track::Tracker>,
    pub hooks: Vec<track::Hook>,
    /// Empty when there is nothing to serve (a node that only holds addresses).
    pub listeners: Vec<Listener>,
    pub certificates: Vec<Certificate>,
    /// https listeners offer HTTP/2.
    pub http2: bool,
    pub pools: Vec<Pool>,
    /// First match wins; ordered by the configuration reader: a named host before any host, then the longer path.
    pub routes: Vec<Route>,
    /// TCP services.
    pub services: Vec<tcp::Service>,
    /// The gateway to ExApps, on the Nextcloud hosts.
    pub exapps: Option<ExApps>,
    pub trust: Trust,
    /// Value of Strict-Transport-Security towards Nextcloud's clients on https; `None` leaves the server's alone.
    pub hsts: Option<String>,
    pub limits: Limits,
    pub abuse: Abuse,
    pub timeouts: Timeouts,
    pub dns: Dns,
    pub spool: Spool,
    pub worker: Worker,
    pub admin: Admin,
    pub log: Log,
}

impl Settings {
    /// Every address that something listens on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let services = self.services.iter().flat_map(|service| service.listen.iter().copied());
        let tunnels = self.exapps.iter().filter_map(|exapps| Some(exapps.frp.as_ref()?.listen));
        self.listeners.iter().map(|listener| listener.address).chain(services).chain(tunnels)
    }
}

#[derive(Debug, Clone)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// Index of this node in `nodes`; order is preference.
    pub this: usize,
    pub secret: Secret,
    /// TCP port of the link between the nodes, on the node addresses.
    pub link_port: u16,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub address: IpAddr,
}

/// Bytes that are compared in constant time, zeroed when the last holder drops them, and never printed.
#[derive(Clone)]
pub struct Secret(pub Arc<[u8]>);

impl Secret {
    /// Whether `other` is the same secret; takes as long for any `other` of its length.
    pub fn matches(&self, other: &[u8]) -> bool {
        let differences = self.0.iter().zip(other).fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        self.0.len() == other.len() && std::hint::black_box(differences) == 0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl Drop for Secret {
    fn drop(&mut self) {
        if let Some(bytes) = Arc::get_mut(&mut self.0) {
            bytes.fill(0);
            std::hint::black_box(bytes);
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub address: SocketAddr,
    pub kind: ListenerKind,
    /// Not empty: only these may connect, and every connection begins with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    Http,
    Https,
    /// Plain HTTP that answers 308 to https (and later ACME challenges).
    RedirectToHttps,
}

/// PEM, already read and checked: the key fits the first certificate.
#[derive(Clone)]
pub struct Certificate {
    pub cert_path: PathBuf,
    pub key_path: PathBuf,
    pub chain_pem: Arc<[u8]>,
    pub key_pem: Arc<[u8]>,
}

impl Certificate {
    /// When it stops being valid, in seconds since 1970.
    pub fn not_after(&self) -> Option<i64> {
        let leaf = CertificateDer::pem_slice_iter(&self.chain_pem).next()?.ok()?;
        super::x509::validity(&leaf).map(|validity| validity.not_after)
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("cert_path", &self.cert_path).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// `web`, `push`, or a name of the operator's.
    pub name: String,
    /// Never empty.
    pub servers: Vec<Server>,
    pub check: Check,
    /// Outstanding requests one server may have, over all cores. More wait, then 503.
    pub max_requests_per_server: u32,
    pub connect_timeout: Duration,
    /// First byte of the response head after the request was sent.
    pub response_timeout: Duration,
    /// Between bytes of a body, either direction.
    pub idle_timeout: Duration,
    /// Both directions silent in an upgraded connection.
    pub tunnel_timeout: Duration,
    /// How long an unused upstream connection stays in a core's pool; below the server's own keep-alive.
    pub keepalive: Duration,
    /// Wait for a free slot of a server before 503.
    pub queue_timeout: Duration,
    /// Connections to its servers begin with a PROXY header that names the client.
    pub send_proxy: Option<ProxyVersion>,
    /// Requests that may wait, over all cores; one more is answered 503 at once.
    pub queue_max: u32,
    pub balance: Balance,
    /// WebSocket handshakes a second, over all cores.
    pub upgrades_per_second: u32,
    pub kind: PoolKind,
}

/// Forms of the PROXY header: text, binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// How a server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The less loaded of two.
    Load,
    /// All requests of one office document meet at one server.
    Document,
    /// The first one that is up: what the servers know is not shared between them.
    First,
}

/// What of Nextcloud's ways the edge knows about a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// Nextcloud's web servers: reserved paths, security headers, no body without a length.
    Nextcloud,
    /// What it answers is its own affair: a 401 is no failed login at Nextcloud.
    ExApp,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As typed, for logs and status.
    pub name: String,
    pub place: Place,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Ip(SocketAddr),
    /// A Unix socket's path.
    Unix(Arc<Path>),
    /// Looked up while we run. Lower case; a dot at the end, as typed, means that it is whole.
    Name {
        host: String,
        port: u16,
    },
}

impl Place {
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Place::Ip(address) => Some(*address),
            Place::Unix(_) | Place::Name { .. } => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Ip(address) => write!(f, "{address}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub kind: CheckKind,
    pub interval: Duration,
    pub timeout: Duration,
    pub rise: u32,
    pub fall: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// `GET /status.php` with this Host; maintenance is not death (nextcloud-edge §4.1).
    NextcloudStatus { host: String },
    /// Any well-formed HTTP answer means alive.
    HttpAlive { path: String, host: String },
    /// A completed TCP handshake.
    Tcp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Lower case, without port; empty means any host.
    pub hosts: Vec<String>,
    /// Segment-aligned prefix of the raw path: `/push/`; `/` matches all.
    pub path: String,
    pub pool: usize,
    pub prefix: Prefix,
}

/// What becomes of a route's path in the request that goes upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prefix {
    #[default]
    Kept,
    /// Taken off the target; what is left goes on byte for byte.
    Stripped,
    /// Taken off, and told behind the name in X-Forwarded-Host, as ONLYOFFICE wants it.
    Hosted,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Peers whose forwarding headers are believed, right to left.
    pub proxies: Vec<IpNet>,
    /// Those of them whose CF-Connecting-IP names the client.
    pub cloudflare: Vec<IpNet>,
    /// notify_push: it asks Nextcloud in the name of its clients, through us. Believed like a proxy.
    pub services: Vec<IpAddr>,
    /// The nodes and this host. A hop when a believed peer names it, because we were; not believed as a peer.
    pub own: Vec<IpAddr>,
}

impl Trust {
    /// What this peer says of the client is believed.
    pub fn is_believed(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|net| net.contains(&peer)) || self.services.contains(&peer)
    }

    /// One of the addresses a request passes through on its way, so not the client if anything is left of it.
    pub fn is_hop(&self, address: IpAddr) -> bool {
        self.is_believed(address) || self.own.contains(&address)
    }

    pub fn is_cloudflare(&self, peer: IpAddr) -> bool {
        self.cloudflare.iter().any(|net| net.contains(&peer))
    }
}

/// The gateway to ExApps.
#[derive(Debug, Clone)]
pub struct ExApps {
    /// What AppAPI calls HP_SHARED_KEY.
    pub shared_key: Secret,
    /// Of the web servers, which are asked about apps and users.
    pub pool: usize,
    /// What they are called then.
    pub host: String,
    /// How long it is remembered whose a session is; zero asks each time.
    pub session_lifetime: Duration,
    /// Where their tunnels come in.
    pub frp: Option<frp::Frp>,
    /// The container engine of this node.
    pub docker: Option<docker::Docker>,
}

/// Bounds of one worker. Each default has its reason in docs/configuration.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Per core.
    pub max_connections: usize,
    /// Over all cores.
    pub max_connections_per_client: usize,
    pub head_bytes_max: usize,
    pub header_line_bytes_max: usize,
    pub header_count_max: usize,
    pub target_bytes_max: usize,
    /// `None`: unlimited (Nextcloud's own limit applies).
    pub body_bytes_max: Option<u64>,
    pub keepalive_requests_max: u32,
    /// Full TLS handshakes in flight per core.
    pub handshakes_max: usize,
}

/// What clients are kept out for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abuse {
    /// `None`: failed logins are not counted.
    pub logins: Option<Logins>,
    /// A banned client's answer waits this long.
    pub tarpit: Duration,
    /// Banned clients are not answered: their connections close when they are accepted.
    pub closes_banned: bool,
    /// Per client.
    pub requests: Option<Rate>,
    pub connections: Option<Rate>,
    /// Of the operator: never banned, never too fast, never too many.
    pub exempt: Vec<IpNet>,
    /// Never banned nor too fast: proxies, servers, the nodes, this host.
    pub installation: Vec<IpNet>,
}

impl Abuse {
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.exempt.iter().chain(&self.installation).any(|network| network.contains(&client))
    }

    /// Speaks for so many that its connections are not counted.
    pub fn is_uncounted(&self, trust: &Trust, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.exempt.iter().any(|network| network.contains(&client)) || trust.is_believed(client)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logins {
    /// Within `window` until the ban.
    pub failures_max: u32,
    pub window: Duration,
    /// The first ban; each further one is twice as long, up to `ban_max`.
    pub ban: Duration,
    pub ban_max: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// Where request bodies without a length wait until theirs is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    pub directory: PathBuf,
    /// Of all bodies together.
    pub bytes_max: u64,
    /// Of one.
    pub body_bytes_max: u64,
}

/// How names of servers are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// First byte of a request head to its end; absolute.
    pub head: Duration,
    pub handshake: Duration,
    /// Idle keep-alive connection of a client.
    pub keepalive: Duration,
    /// No progress while sending to or receiving from a client.
    pub client_idle: Duration,
    /// `None`: a body may come as slowly as `client_idle` lets it.
    pub upload: Option<LeastRate>,
    /// `None`: it may be taken as slowly as `client_idle` lets it.
    pub download: Option<LeastRate>,
    /// Open connections get this long after SIGTERM or `lyre drain`.
    pub drain: Duration,
}

/// The least that the body of a request is expected to come at, or that of a response to be taken at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastRate {
    pub bytes_per_second: u64,
    /// A client may be below the rate for this long, beside its pauses.
    pub window: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Data executors; default one per CPU this process may use.
    pub cores: usize,
    /// Account of the worker when the parent is root; falls back to uid/gid 65534.
    pub user: Option<String>,
    /// A core that makes no progress this long is hung.
    pub hang_timeout: Duration,
    /// `auto` tries io_uring and falls back to epoll.
    pub driver: DriverChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverChoice {
    Auto,
    Ring,
    Epoll,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket of the admin API (mode 0600).
    pub socket: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub access: AccessLog,
    /// `error`, `warn`, `info`, `debug`
    pub level: tracing::Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Where the access log goes, one line a request, in the process log's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Stderr,
    File(PathBuf),
}
