//! `vrrp_instance`: one virtual router.

use super::addresses::{self, Address};
use super::garp::Garp;
use super::hooks::{self, Hook};
use super::speech::{self, Auth, Peer};
use super::trackers::{self, Trackers};
use super::{Globals, is_on, numbers};
use crate::import::error::Position;
use crate::import::findings::Findings;
use crate::import::keepalived::keywords::{self, Block};
use crate::import::keepalived::tree::Statement;
use std::net::IpAddr;

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
    pub(super) excluded: Vec<Address>,
    pub(super) version: u8,
    pub(super) source: Option<IpAddr>,
    /// The source is to be written, not only known.
    pub(super) has_source: bool,
    pub(super) peers: Vec<Peer>,
    pub(super) auth: Auth,
    pub(super) has_plain_checksum: bool,
    pub(super) virtual_mac: Option<VirtualMac>,
    pub(super) garp: Garp,
    pub(super) sync_group: Option<String>,
    /// `vip.priority`, if the order of the nodes does not say it.
    pub(super) priorities: Option<String>,
    /// Of its `[[vip]]`.
    pub(super) vip_name: String,
    /// Comments above its `[[vip]]`.
    pub(super) notes: Vec<String>,
    /// Why its `[[vip]]` is commented out.
    pub(super) problem: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct VirtualMac {
    pub(super) interface: Option<String>,
    pub(super) adverts_from_base: bool,
}

pub(super) fn read(
    findings: &mut Findings,
    globals: &Globals,
    trackers: &mut Trackers,
    hook: &mut Hook,
    block: &Statement,
    index: usize,
) -> Instance {
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
        excluded: Vec::new(),
        version: version(block, globals),
        source: None,
        has_source: false,
        peers: Vec::new(),
        auth: Auth::default(),
        has_plain_checksum: globals.has_plain_checksum,
        virtual_mac: None,
        garp: Garp::default(),
        sync_group: None,
        priorities: None,
        vip_name: String::new(),
        notes: Vec::new(),
        problem: None,
    };
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
            "advert_int" => instance.interval_ms = interval(findings, statement, instance.version),
            "version" => match numbers::whole(statement.argument(0), 2..=3) {
                Some(typed) if typed == instance.version => findings.mapped(statement, "vip.version"),
                Some(_) => findings.remark(statement, "its addresses are IPv6, so it is 3"),
                None => findings.refused(statement, "is not 2 or 3"),
            },
            "virtual_ipaddress" => {
                let more = addresses::read(findings, statement, instance.interface.as_deref());
                instance.addresses.extend(more);
            }
            "virtual_ipaddress_excluded" => {
                let more = addresses::read(findings, statement, instance.interface.as_deref());
                instance.excluded.extend(more);
            }
            "nopreempt" | "preempt" | "preempt_delay" => preempt(findings, statement, &mut instance),
            "unicast_src_ip" | "mcast_src_ip" => speech::source(findings, statement, &mut instance),
            "unicast_peer" => speech::peers(findings, statement, &mut instance),
            "authentication" => {
                let version = instance.version;
                speech::authentication(findings, statement, &mut instance, version);
            }
            "auth_hmac" => speech::hmac(findings, statement, &mut instance.auth),
            "v3_checksum_as_v2" => {
                instance.has_plain_checksum = statement.argument(0).is_none_or(is_on);
                findings.mapped(statement, "vip.checksum");
            }
            "down_timer_adverts" => match numbers::whole(statement.argument(0), 1..=255) {
                Some(count) => {
                    instance.down_adverts = Some(count);
                    findings.mapped(statement, "vip.down_adverts");
                }
                None => findings.refused(statement, "is not 1..255"),
            },
            "use_vmac" => use_vmac(findings, statement, &mut instance),
            "vmac_xmit_base" => {
                instance.virtual_mac.get_or_insert_default().adverts_from_base = true;
                findings.mapped(statement, "vip.virtual_mac.adverts_from_base");
            }
            "notify_priority_changes" => {} // with the FIFO, later
            _ if instance.garp.read(findings, statement) => {}
            _ if hooks::read(findings, hook, statement) => {}
            _ if trackers::read(findings, trackers, statement, &[index], instance.interface.as_deref()) => {}
            _ => keywords::note(findings, Block::Instance, statement),
        }
    }
    instance.garp = instance.garp.or(&globals.garp);
    if find("use_vmac").is_none() {
        instance.virtual_mac = None; // vmac_xmit_base alone does nothing
    }
    let silence = numbers::duration(instance.interval_ms * u64::from(instance.down_adverts.unwrap_or(3)));
    if instance.version == 2 {
        instance.notes.push(format!(
            "VRRP version 2, which takes over after {silence} of silence. Once both nodes are Lyre, remove version, advert_interval and auth on both: version 3 needs 300ms."
        ));
    } else if instance.interval_ms >= 1000 {
        instance.notes.push(format!(
            "Takes over after {silence} of silence. On a LAN leave advert_interval out: 100ms, so 300ms."
        ));
    }
    complete(findings, block, &mut instance);
    instance
}

/// As written here or for all; version 2 by default, and never for IPv6.
fn version(block: &Statement, globals: &Globals) -> u8 {
    let find = |name: &str| block.inside().iter().find(|statement| statement.name() == name);
    let typed = find("version").and_then(|statement| numbers::whole(statement.argument(0), 2..=3));
    let first = find("virtual_ipaddress").and_then(|list| list.inside().first());
    let is_v6 = first.and_then(|line| addresses::parse(line.name())).is_some_and(|network| network.addr().is_ipv6());
    if is_v6 { 3 } else { typed.or(globals.version).unwrap_or(2) }
}

/// `use_vmac [NAME] [MAC] [netlink_notify_msg] [group N]`
fn use_vmac(findings: &mut Findings, statement: &Statement, instance: &mut Instance) {
    let name =
        statement.argument(0).filter(|word| !word.contains(':') && !["netlink_notify_msg", "group"].contains(word));
    let is_usable = |name: &&str| {
        name.len() <= 15 && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    instance.virtual_mac.get_or_insert_default().interface = name.filter(is_usable).map(str::to_owned);
    if statement.arguments.iter().any(|word| word.text.contains(':')) {
        findings.remark(statement, "vip.virtual_mac, with the MAC of the VRID and not this one");
    } else if name.is_some() && name.filter(is_usable).is_none() {
        findings.remark(statement, "vip.virtual_mac, with a name of Lyre's own");
    } else {
        findings.mapped(statement, "vip.virtual_mac");
    }
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
            "vip.priority: the owner is Active whenever it is there; what the system itself put on the interface stays there",
        ),
        Some(_) => findings.mapped(statement, "the order of cluster.nodes, whose first one has 254 and the next 253"),
    }
    value
}

fn interval(findings: &mut Findings, statement: &Statement, version: u8) -> u64 {
    let Some(ms) = numbers::seconds_ms(statement.argument(0)) else {
        findings.refused(statement, "is no number of seconds; 1s is written");
        return ADVERT_INTERVAL_MS;
    };
    let near = match version {
        2 => ((ms + 500) / 1000 * 1000).clamp(1000, 40_000),
        _ => (ms / 10 * 10).clamp(10, ADVERT_INTERVAL_MS_MAX),
    };
    if near != ms && version == 2 {
        let why =
            format!("becomes {}: version 2 counts whole seconds, as keepalived rounds them", numbers::duration(near));
        findings.remark(statement, why);
    } else if near == ms {
        findings.mapped(statement, "vip.advert_interval");
    } else {
        let why = format!("becomes {}: adverts count 10 ms, up to 40.95 s", numbers::duration(near));
        findings.remark(statement, why);
    }
    near
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
