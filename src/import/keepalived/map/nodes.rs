//! `[cluster]` needs both nodes; keepalived.conf knows one, and the other at best by its address.

use super::Globals;
use super::instance::{Instance, Preempt};
use crate::import::names::given_name;
use crate::import::write::quoted;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses for documentation (RFC 5737): valid, and nobody's.
const UNKNOWN: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2))];

/// More than `lyre check` takes would be a list of something else.
const PEERS_MAX: usize = 15;

pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: IpAddr,
    /// Behind its line in the file.
    pub(super) comment: String,
}

/// The nodes, the preferred one first; none when there is no virtual router.
pub(super) fn find(host: &str, globals: &Globals, instances: &mut [Instance]) -> Vec<Node> {
    if instances.is_empty() {
        return Vec::new();
    }
    let name = [globals.router_id.as_deref(), Some(host)].into_iter().flatten().find_map(|name| given_name(name, 63));
    let name = name.unwrap_or_else(|| "node-a".to_owned());
    let with_source = instances.iter().find_map(|instance| Some((instance.source?, instance)));
    let this = match with_source {
        Some((address, instance)) => {
            let comment = format!("this node; source address of {}, line {}", instance.name, instance.at.line);
            Node { name: name.clone(), address, comment }
        }
        None => {
            Node { name: name.clone(), address: UNKNOWN[0], comment: "FILL IN: this node's own address".to_owned() }
        }
    };
    let mut peers = peers(instances, &name, this.address);
    let preferences: Vec<Option<bool>> = instances.iter().map(is_preferred).collect();
    let preference = preferences.iter().copied().flatten().next();
    let preferred = preference.unwrap_or(true);
    for (instance, own) in instances.iter_mut().zip(preferences) {
        instance.priorities = priorities(instance, own, preferred, &this, &peers);
    }
    match preferred {
        true => peers.insert(0, this),
        false => peers.push(this),
    }
    peers
}

/// `vip.priority`, where it is not as in `cluster.nodes`: the owner, and what prefers another node than the rest. Members
/// of a sync group follow the rest, because they cannot be in two places.
fn priorities(instance: &Instance, own: Option<bool>, preferred: bool, this: &Node, peers: &[Node]) -> Option<String> {
    let key = |node: &Node| if node.name.contains('.') { quoted(&node.name) } else { node.name.clone() };
    if instance.priority == Some(255) {
        return Some(format!("{{ {} = 255 }}", key(this)));
    }
    let other = peers.first()?;
    if instance.sync_group.is_some() || own.is_none_or(|own| own == preferred) {
        return None;
    }
    let (high, low) = if preferred { (other, this) } else { (this, other) };
    Some(format!("{{ {} = 254, {} = 253 }}", key(high), key(low)))
}

/// What the file says about the others, or a place for one.
fn peers(instances: &[Instance], name: &str, own: IpAddr) -> Vec<Node> {
    let source = instances.iter().find(|instance| !instance.peers.is_empty());
    let mut nodes: Vec<Node> = Vec::new();
    let addresses = source.into_iter().flat_map(|instance| instance.peers.iter().map(|peer| &peer.address));
    for (address, instance) in addresses.zip(source.into_iter().cycle()) {
        let is_known = *address == own || nodes.iter().any(|node| node.address == *address);
        if !is_known && nodes.len() < PEERS_MAX {
            let comment = format!("peer of {}, line {}", instance.name, instance.at.line);
            nodes.push(Node { name: peer_name(name, nodes.len()), address: *address, comment });
        }
    }
    if nodes.is_empty() {
        let comment = "FILL IN: the other node's own address".to_owned();
        nodes.push(Node { name: peer_name(name, 0), address: UNKNOWN[1], comment });
    }
    nodes
}

fn peer_name(own: &str, index: usize) -> String {
    let stem = if own.starts_with("peer") { "other" } else { "peer" };
    if index == 0 { stem.to_owned() } else { format!("{stem}-{}", index + 1) }
}

/// Whether this is the preferred node, as far as its own file tells: by the state, unless nopreempt made that BACKUP on
/// both nodes; else by a priority other than the default.
fn is_preferred(instance: &Instance) -> Option<bool> {
    match (instance.is_master, instance.priority.unwrap_or(100)) {
        (Some(true), _) => Some(true),
        (Some(false), _) if instance.preempt != Preempt::Never => Some(false),
        (_, 100) => None,
        (_, priority) => Some(priority > 100),
    }
}
