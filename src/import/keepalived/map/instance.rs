//! `vrrp_instance`: one virtual router.

use super::addresses::{self, Address};
use super::scripts::{self, Scripts};
use super::{Globals, numbers};
use crate::import::keepalived::error::Position;
use crate::import::keepalived::findings::Findings;
use crate::import::keepalived::keywords::{self, Block};
use crate::import::keepalived::tree::Statement;
use std::net::IpAddr;

pub(super) const VERSION_2: &str =
    "adverts become VRRP version 3, which a keepalived with version 2 does not hear: change both nodes at once";

/// keepalived's default, milliseconds.
const ADVERT_INTERVAL_MS: u64 = 1000;

/// RFC 9568 §5.2.7: 12 bits of centiseconds.
const ADVERT_INTERVAL_MS_MAX: u64 = 40_950;

const PREEMPT_DELAY_MS_MAX: u64 = 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preempt {
    Never,
    AtOnce,
    AfterMs(u64),
}

pub(super) struct Instance {
    pub(super) name: String,
    pub(super) at: Position,
    pub(super) interface: Option<String>,
    pub(super) vrid: Option<u8>,
    pub(super) priority: Option<u8>,
    /// `state`, if there is one.
    pub(super) is_master: Option<bool>,
    pub(super) interval_ms: u64,
    pub(super) down_adverts: Option<u8>,
    pub(super) preempt: Preempt,
    pub(super) addresses: Vec<Address>,
    pub(super) source: Option<IpAddr>,
    pub(super) peers: Vec<IpAddr>,
    /// Comments above its `[[vip]]`.
    pub(super) notes: Vec<String>,
    /// Why its `[[vip]]` is commented out.
    pub(super) problem: Option<String>,
    /// Its addresses are in another instance's `[[vip]]`.
    pub(super) is_joined: bool,
}

pub(super) fn read(findings: &mut Findings, globals: &Globals, scripts: &Scripts, block: &Statement) -> Instance {
    let find = |name: &str| block.inside().iter().find(|statement| statement.name() == name);
    let typed_interface = find("interface").and_then(|statement| statement.argument(0));
    let mut instance = Instance {
        name: block.argument(0).unwrap_or("(without name)").to_owned(),
        at: block.at().clone(),
        interface: typed_interface.or(globals.default_interface.as_deref()).map(str::to_owned),
        vrid: None,
        priority: None,
        is_master: find("state").and_then(|statement| statement.argument(0)).and_then(is_master),
        interval_ms: ADVERT_INTERVAL_MS,
        down_adverts: globals.down_adverts,
        preempt: Preempt::AtOnce,
        addresses: Vec::new(),
        source: None,
        peers: Vec::new(),
        notes: Vec::new(),
        problem: None,
        is_joined: false,
    };
    let mut version = globals.version;
    let has_priority = find("priority").is_some();
    for statement in block.inside() {
        match statement.name() {
            "state" => state(findings, statement, has_priority),
            "interface" => findings.mapped(statement, "vip.interface"),
            "virtual_router_id" => {
                instance.vrid = numbers::whole(statement.argument(0), 1..=255);
                match instance.vrid {
                    Some(_) => findings.mapped(statement, "vip.vrid"),
                    None => findings.refused(statement, "is not 1..255"),
                }
            }
            "priority" => instance.priority = priority(findings, statement),
            "advert_int" => instance.interval_ms = interval(findings, statement),
            "version" => version = read_version(findings, statement).or(version),
            "virtual_ipaddress" | "virtual_ipaddress_excluded" => {
                let more = addresses::read(findings, statement, instance.interface.as_deref());
                instance.addresses.extend(more);
            }
            "nopreempt" | "preempt" | "preempt_delay" => preempt(findings, statement, &mut instance),
            "unicast_src_ip" | "mcast_src_ip" => source(findings, statement, &mut instance),
            "unicast_peer" => peers(findings, statement, &mut instance),
            "authentication" => authentication(findings, statement),
            "track_interface" => interfaces(findings, statement, instance.interface.as_deref()),
            "track_script" => scripts::tracked(findings, scripts, statement),
            "down_timer_adverts" => match numbers::whole(statement.argument(0), 1..=255) {
                Some(count) => {
                    instance.down_adverts = Some(count);
                    findings.mapped(statement, "vip.down_adverts");
                }
                None => findings.refused(statement, "is not 1..255"),
            },
            "use_vmac" => findings.remark(
                statement,
                "virtual MACs are not in this version; neighbours learn the move by gratuitous ARP and neighbour advertisements",
            ),
            _ => keywords::note(findings, Block::Instance, statement),
        }
    }
    if version != Some(3) && instance.addresses.iter().any(|address| address.network.addr().is_ipv4()) {
        instance.notes.push("Was VRRP version 2 and is 3 now: change both nodes at the same time.".to_owned());
    }
    if instance.interval_ms >= 1000 {
        let silence = numbers::duration(instance.interval_ms * u64::from(instance.down_adverts.unwrap_or(3)));
        let note =
            format!("Takes over after {silence} of silence. On a LAN leave advert_interval out: 100ms, so 300ms.");
        instance.notes.push(note);
    }
    complete(findings, block, &mut instance);
    instance
}

fn is_master(state: &str) -> Option<bool> {
    match state {
        "MASTER" => Some(true),
        "BACKUP" => Some(false),
        _ => None,
    }
}

/// What lyre.toml cannot do without.
fn complete(findings: &mut Findings, block: &Statement, instance: &mut Instance) {
    if instance.interface.is_none() {
        findings.remark(block, "names no interface; Lyre takes the one whose network holds the first address");
    }
    let missing = match () {
        () if instance.vrid.is_none() => "has no virtual_router_id; give it one that is free on this LAN",
        () if instance.addresses.is_empty() => "has no address that can be used",
        () => return,
    };
    findings.refused(block, missing);
    instance.problem = Some(missing.to_owned());
}

fn state(findings: &mut Findings, statement: &Statement, has_priority: bool) {
    match statement.argument(0) {
        Some("MASTER") if !has_priority => findings.remark(
            statement,
            "without priority this is 255 to keepalived, the owner; here it is the first of cluster.nodes",
        ),
        Some("MASTER" | "BACKUP") => findings.ignored(statement, "the order of cluster.nodes decides"),
        _ => findings.refused(statement, "is not MASTER or BACKUP"),
    }
}

fn priority(findings: &mut Findings, statement: &Statement) -> Option<u8> {
    let value = numbers::whole(statement.argument(0), 1..=255);
    match value {
        None => findings.refused(statement, "is not 1..255"),
        Some(255) => findings.remark(
            statement,
            "255 is the owner of the address; here it is the first of cluster.nodes, and the address must not be configured on it",
        ),
        Some(_) => findings.mapped(statement, "the order of cluster.nodes, whose first one has 254 and the next 253"),
    }
    value
}

fn interval(findings: &mut Findings, statement: &Statement) -> u64 {
    let Some(ms) = numbers::seconds_ms(statement.argument(0)) else {
        findings.refused(statement, "is no number of seconds; 1s is written");
        return ADVERT_INTERVAL_MS;
    };
    let near = (ms / 10 * 10).clamp(10, ADVERT_INTERVAL_MS_MAX);
    if near == ms {
        findings.mapped(statement, "vip.advert_interval");
    } else {
        let why = format!("becomes {}: adverts count 10 ms, up to 40.95 s", numbers::duration(near));
        findings.remark(statement, why);
    }
    near
}

fn read_version(findings: &mut Findings, statement: &Statement) -> Option<u8> {
    let version = numbers::whole(statement.argument(0), 2..=3);
    match version {
        Some(3) => findings.mapped(statement, "version 3 is the only one"),
        Some(_) => findings.remark(statement, VERSION_2),
        None => findings.refused(statement, "is not 2 or 3"),
    }
    version
}

fn preempt(findings: &mut Findings, statement: &Statement, instance: &mut Instance) {
    let is_master = instance.is_master == Some(true);
    match statement.name() {
        "preempt" => findings.mapped(statement, "vip.preempt"),
        _ if is_master => findings.remark(statement, "has no effect beside state MASTER in keepalived, and none here"),
        "nopreempt" => {
            instance.preempt = Preempt::Never;
            findings.mapped(statement, "vip.preempt = false");
        }
        _ => match numbers::seconds_ms(statement.argument(0)) {
            Some(ms) if ms <= PREEMPT_DELAY_MS_MAX => {
                if instance.preempt != Preempt::Never && ms > 0 {
                    instance.preempt = Preempt::AfterMs(ms);
                }
                findings.mapped(statement, "vip.preempt");
            }
            _ => findings.refused(statement, "is no number of seconds up to 3600"),
        },
    }
}

fn source(findings: &mut Findings, statement: &Statement, instance: &mut Instance) {
    match node_address(statement.argument(0).unwrap_or_default()) {
        Ok(address) => {
            instance.source = instance.source.or(Some(address));
            findings.mapped(statement, "cluster.nodes[].address of this node");
        }
        Err(why) => findings.refused(statement, why),
    }
}

fn peers(findings: &mut Findings, block: &Statement, instance: &mut Instance) {
    findings.refused(
        block,
        "adverts by unicast are not in this version; they go by multicast, which most clouds do not carry: wait there",
    );
    instance.notes.push(
        "peers = \"unicast\" comes later. Where the network carries no multicast, do not use this yet.".to_owned(),
    );
    for line in block.inside() {
        match node_address(line.name()) {
            Ok(address) if line.arguments.is_empty() => {
                instance.peers.push(address);
                findings.mapped(line, "cluster.nodes[].address");
            }
            Ok(address) => {
                instance.peers.push(address);
                findings.remark(
                    line,
                    "cluster.nodes[].address; TTL limits have no part in multicast, where 255 is required",
                );
            }
            Err(why) => findings.refused(line, why),
        }
    }
}

/// An address by which the nodes can reach each other.
fn node_address(text: &str) -> Result<IpAddr, &'static str> {
    let address: IpAddr = text.parse().map_err(|_| "is no address")?;
    match address {
        _ if address.is_unspecified() || address.is_multicast() => Err("is no address of a node"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Err("is link-local; write an address into cluster.nodes that works without naming an interface")
        }
        _ => Ok(address),
    }
}

fn authentication(findings: &mut Findings, block: &Statement) {
    for statement in block.inside() {
        match (statement.name(), statement.argument(0)) {
            ("auth_type", Some("AH")) => {
                findings
                    .refused(statement, "IPsec AH left VRRP with RFC 5798; put the adverts on a network of their own");
            }
            ("auth_type" | "auth_pass", _) => findings.ignored(
                statement,
                "VRRP version 3 has no passwords: they went over the wire in plain text and protected nobody",
            ),
            _ => findings.unknown(statement, "authentication"),
        }
    }
}

fn interfaces(findings: &mut Findings, block: &Statement, own: Option<&str>) {
    for line in block.inside() {
        let has_weight = line.arguments.iter().any(|word| word.text == "weight");
        match own == Some(line.name()) {
            true if has_weight => findings.remark(line, "Lyre always tracks it; a lost link is a fault, not a lower priority"),
            true => findings.mapped(line, "Lyre always tracks the interface of its addresses"),
            false => findings.refused(
                line,
                "other interfaces are not tracked in this version; Lyre hands over when the link of its addresses is lost",
            ),
        }
    }
}
