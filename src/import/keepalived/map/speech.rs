//! How a virtual router talks: peers, source, authentication.

use super::instance::Instance;
use super::numbers;
use crate::import::findings::Findings;
use crate::import::keepalived::tree::Statement;
use crate::import::write::quoted;
use std::net::IpAddr;

#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    ttl: Option<(u8, u8)>,
}

impl Peer {
    /// As lyre.toml has it. keepalived leaves the hop limit of IPv6 to the kernel, and checks it only if told.
    fn written(&self) -> String {
        match self.ttl.or(self.address.is_ipv6().then_some((1, 255))) {
            None => format!("\"{}\"", self.address),
            Some((low, high)) => format!("{{ address = \"{}\", ttl = \"{low}..{high}\" }}", self.address),
        }
    }
}

/// How an instance authenticates, as far as its version lets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Auth {
    has_password: bool,
    keys: Vec<u8>,
    active_key: Option<u8>,
    mode: Option<&'static str>,
    by_clock: bool,
    window_ms: Option<u64>,
}

pub(super) fn source(findings: &mut Findings, statement: &Statement, instance: &mut Instance) {
    match node_address(statement.argument(0).unwrap_or_default()) {
        Ok(address) => {
            instance.source = instance.source.or(Some(address));
            match statement.name() {
                "mcast_src_ip" => {
                    instance.has_source = true;
                    findings.mapped(statement, "vip.source, and cluster.nodes[].address of this node");
                }
                _ => findings.mapped(statement, "vip.peers, and cluster.nodes[].address of this node"),
            }
        }
        Err(why) => findings.refused(statement, why),
    }
}

pub(super) fn peers(findings: &mut Findings, block: &Statement, instance: &mut Instance) {
    findings.mapped(block, "vip.peers; a node leaves itself out of the list, so one file serves all");
    for line in block.inside() {
        let address = match node_address(line.name()) {
            Ok(address) => address,
            Err(why) => {
                findings.refused(line, why);
                continue;
            }
        };
        if instance.source == Some(address) || instance.peers.iter().any(|peer| peer.address == address) {
            findings.remark(line, "vip.peers has it already");
            continue;
        }
        match ttl(line) {
            Ok(ttl) => {
                findings.mapped(line, "vip.peers");
                instance.peers.push(Peer { address, ttl });
            }
            Err(why) => {
                findings.remark(line, format!("vip.peers; {why}"));
                instance.peers.push(Peer { address, ttl: None });
            }
        }
    }
}

/// `[min_ttl 0..255] [max_ttl 0..255]`
fn ttl(line: &Statement) -> Result<Option<(u8, u8)>, &'static str> {
    let (mut low, mut high) = (None, None);
    let words = line.words();
    for pair in words.get(1..).unwrap_or_default().chunks(2) {
        let number = pair.get(1).and_then(|text| text.parse::<u8>().ok());
        match pair.first() {
            Some(&"min_ttl") => low = number,
            Some(&"max_ttl") => high = number,
            _ => return Err("without options that are no TTL limits"),
        }
    }
    let (low, high) = match (low, high) {
        (None, None) => return Ok(None),
        (low, high) => (low.unwrap_or(1).max(1), high.unwrap_or(255)),
    };
    if low <= high { Ok(Some((low, high))) } else { Err("its TTL limits exclude everything and are left out") }
}

/// An address by which the nodes can reach each other.
fn node_address(text: &str) -> Result<IpAddr, &'static str> {
    let address: IpAddr = text.parse().map_err(|_| "is no address")?;
    match address {
        _ if address.is_unspecified() || address.is_multicast() || address.is_loopback() => {
            Err("is no address of a node")
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Err("is link-local; write an address into cluster.nodes that works without naming an interface")
        }
        _ => Ok(address),
    }
}

/// `version` as far as it is known; a password goes with version 2 only.
pub(super) fn authentication(findings: &mut Findings, block: &Statement, instance: &mut Instance, version: u8) {
    for statement in block.inside() {
        match (statement.name(), statement.argument(0)) {
            ("auth_type", Some("AH")) => {
                findings.refused(
                    statement,
                    "IPsec AH left VRRP with RFC 5798; sign the adverts instead, with vip.auth.keys",
                );
            }
            ("auth_type" | "auth_pass", _) if version == 2 => {
                instance.auth.has_password |= statement.name() == "auth_pass";
                findings.mapped(statement, "vip.auth.password_file; put auth_pass into that file");
            }
            ("auth_type" | "auth_pass", _) => findings.ignored(
                statement,
                "VRRP version 3 has no passwords: they went over the wire in plain text and protected nobody",
            ),
            _ => findings.unknown(statement, "authentication"),
        }
    }
}

pub(super) fn hmac(findings: &mut Findings, block: &Statement, auth: &mut Auth) {
    for statement in block.inside() {
        let argument = statement.argument(0);
        let is_read = match (statement.name(), argument) {
            ("key", _) => match numbers::whole(argument, 1..=255) {
                Some(id) => {
                    if !auth.keys.contains(&id) {
                        auth.keys.push(id);
                    }
                    true
                }
                None => false,
            },
            ("active_key", _) => {
                auth.active_key = numbers::whole(argument, 1..=255);
                auth.active_key.is_some()
            }
            ("anti_replay", Some(word @ ("time" | "monotonic"))) => {
                auth.by_clock = word == "time";
                true
            }
            ("time_window", _) => {
                auth.window_ms = numbers::seconds_ms(argument).filter(|ms| (100..=3_600_000).contains(ms));
                auth.window_ms.is_some()
            }
            ("mode", Some("enforce")) => set_mode(auth, "enforce"),
            ("mode", Some("permissive")) => set_mode(auth, "permissive"),
            ("mode", Some("receive-only" | "receive_only")) => set_mode(auth, "receive-only"),
            _ => {
                findings.unknown(statement, "auth_hmac");
                continue;
            }
        };
        match is_read {
            true => findings.mapped(statement, "vip.auth; put each key into the file named there"),
            false => findings.refused(statement, "has no value that is allowed there"),
        }
    }
}

fn set_mode(auth: &mut Auth, mode: &'static str) -> bool {
    auth.mode = Some(mode);
    true
}

/// The lines of `[[vip]]`. Secrets are named, not written: lyre.toml is mailed around.
pub(super) fn lines(instance: &Instance) -> Vec<String> {
    let mut lines = Vec::new();
    if instance.version == 2 {
        lines.push("version = 2 # as long as the other node needs it".to_owned());
    }
    if !instance.peers.is_empty() {
        let is_listed = |address: &IpAddr| instance.peers.iter().any(|peer| peer.address == *address);
        let own = instance.source.filter(|address| !is_listed(address)).map(|address| format!("\"{address}\""));
        let peers: Vec<String> = own.into_iter().chain(instance.peers.iter().map(Peer::written)).collect();
        let remark = if instance.source.is_none() { " # FILL IN: add this node's own address" } else { "" };
        lines.push(format!("peers = [{}]{remark}", peers.join(", ")));
    } else if let (Some(source), true) = (instance.source, instance.has_source) {
        lines.push(format!("source = [\"{source}\"] # FILL IN: add the other node's"));
    }
    lines.extend(auth_line(instance));
    lines
}

fn auth_line(instance: &Instance) -> Option<String> {
    let auth = &instance.auth;
    let stem = format!("vrrp-{}", if instance.vip_name.is_empty() { "unused" } else { &instance.vip_name });
    if auth.keys.is_empty() {
        return auth.has_password.then(|| {
            format!("auth = {{ password_file = {} }} # FILL IN: auth_pass, mode 0600", quoted(&format!("{stem}.pass")))
        });
    }
    let mut keys = auth.keys.clone();
    keys.sort_by_key(|id| Some(*id) != auth.active_key);
    let key = |id: &u8| format!("{{ id = {id}, file = {} }}", quoted(&format!("{stem}-{id}.key")));
    let mut parts = vec![format!("keys = [{}]", keys.iter().map(key).collect::<Vec<_>>().join(", "))];
    parts.extend(auth.mode.map(|mode| format!("mode = \"{mode}\"")));
    if auth.by_clock {
        parts.push("replay = \"time\"".to_owned());
        parts.extend(auth.window_ms.map(|ms| format!("window = \"{}\"", numbers::duration(ms))));
    }
    Some(format!("auth = {{ {} }} # FILL IN the files", parts.join(", ")))
}
