//! `peers` and `source`: where adverts go and come from.
//!
//! The same file serves all nodes: a node's own addresses among its peers are left out, and of several sources it takes
//! the one it has.

use super::Vip;
use crate::config::bundle::Interface;
use crate::config::file::{Item, Section};
use crate::config::read::{Context, cluster};
use crate::config::settings::vip::{Peer, Peers};
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Each gets its own copy of every advert.
const PEERS_MAX: usize = 32;

const LIST: &str = "Write peers = [\"192.0.2.11\", \"192.0.2.12\"], the addresses of all nodes, or \"multicast\".";

pub(super) enum Typed<'a> {
    Multicast,
    /// The other nodes of `[cluster]`.
    Cluster(Item<'a>),
    List(Item<'a>, Vec<TypedPeer>),
}

#[derive(Clone)]
pub(super) struct TypedPeer {
    address: IpAddr,
    ttl: Option<RangeInclusive<u8>>,
}

pub(super) struct Source<'a>(Option<(Item<'a>, Vec<IpAddr>)>);

pub(super) fn read<'a>(c: &mut Context, section: &mut Section<'a>) -> Typed<'a> {
    let Some(item) = section.optional("peers") else { return Typed::Multicast };
    if !item.is_list() {
        const CHOICES: [(&str, bool); 2] = [("multicast", false), ("unicast", true)];
        let is_unicast = item.choice(&mut c.f, &CHOICES) == Some(true);
        return if is_unicast { Typed::Cluster(item) } else { Typed::Multicast };
    }
    let list = item.filled_list(&mut c.f, LIST);
    if list.len() > PEERS_MAX {
        item.error(&mut c.f, format!("has more than {PEERS_MAX} peers"), "");
    }
    let mut peers: Vec<TypedPeer> = Vec::new();
    for item in list {
        let Some(peer) = peer(c, &item) else { continue };
        if peers.iter().any(|other| other.address == peer.address) {
            item.error(&mut c.f, format!("{} is listed twice", peer.address), "");
        }
        peers.push(peer);
    }
    Typed::List(item, peers)
}

/// `"192.0.2.12"` or `{ address = "192.0.2.12", ttl = "250..255" }`.
fn peer(c: &mut Context, item: &Item) -> Option<TypedPeer> {
    if item.is_text() {
        return Some(TypedPeer { address: node_address(c, item)?, ttl: None });
    }
    let mut section = item.section(&mut c.f)?;
    let address = section.required(&mut c.f, "address", "Write address = \"192.0.2.12\".");
    let ttl = section.optional("ttl").and_then(|item| ttl(c, &item));
    section.finish(&mut c.f);
    Some(TypedPeer { address: node_address(c, &address?)?, ttl })
}

/// `"255"` or `"250..255"`.
fn ttl(c: &mut Context, item: &Item) -> Option<RangeInclusive<u8>> {
    let text = item.text(&mut c.f)?;
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.trim().trim_start_matches('=').parse::<u8>().ok().filter(|ttl| *ttl > 0);
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Some(low..=high),
        _ => {
            let hint = "Write \"255\" for a neighbour, or a range: \"250..255\" lets five routers be on the way.";
            item.error(&mut c.f, format!("{text:?} is no range of TTLs"), hint);
            None
        }
    }
}

fn node_address(c: &mut Context, item: &Item) -> Option<IpAddr> {
    let text = item.text(&mut c.f)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        let bare = text.split('/').next().and_then(|bare| bare.parse::<IpAddr>().ok());
        let hint = match bare {
            Some(bare) => format!("Write \"{bare}\", without the prefix length."),
            None => "Write a node's own address, as \"192.0.2.12\".".to_owned(),
        };
        item.error(&mut c.f, format!("{text:?} is no IP address"), hint);
        return None;
    };
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        item.error(&mut c.f, format!("{address} is no address of a node"), "");
        return None;
    }
    Some(address)
}

pub(super) fn source<'a>(c: &mut Context, section: &mut Section<'a>) -> Source<'a> {
    let Some(item) = section.optional("source") else { return Source(None) };
    let list =
        if item.is_text() { vec![item.clone()] } else { item.filled_list(&mut c.f, "Write source = \"192.0.2.11\".") };
    let addresses = list.iter().filter_map(|item| node_address(c, item)).collect();
    Source(Some((item, addresses)))
}

/// Peers and source of the router of one family.
pub(super) fn of_family(
    c: &mut Context,
    vip: &Vip,
    is_v4: bool,
    cluster: &Option<cluster::Read>,
    addresses: &[IpNet],
) -> (Peers, Option<IpAddr>) {
    let own: Vec<IpAddr> = c.host.interfaces().iter().flat_map(|i| &i.addresses).map(|own| own.addr()).collect();
    let (peers, implied) = match &vip.peers {
        Typed::Multicast => (Peers::Multicast, None),
        Typed::Cluster(item) => of_cluster(c, item, vip, is_v4, cluster),
        Typed::List(item, list) => of_list(c, item, list, vip, is_v4, &own),
    };
    let is_virtual = |address: &IpAddr| addresses.iter().any(|network| network.addr() == *address);
    let here = |address: &IpAddr| has(vip.interface.as_ref(), *address) && !is_virtual(address);
    let typed = typed_source(c, vip, is_v4, peers == Peers::Multicast, here);
    (peers, typed.or(implied.filter(here)))
}

fn of_cluster(
    c: &mut Context,
    item: &Item,
    vip: &Vip,
    is_v4: bool,
    cluster: &Option<cluster::Read>,
) -> (Peers, Option<IpAddr>) {
    let Some(cluster::Read { cluster, .. }) = cluster else {
        item.error(&mut c.f, "\"unicast\" means the other nodes of [cluster], and there is none", LIST);
        return (Peers::Multicast, None);
    };
    let is_family = |address: &IpAddr| address.is_ipv4() == is_v4;
    let others = cluster.nodes.iter().enumerate().filter(|(index, _)| *index != cluster.this).map(|(_, node)| node);
    let peers: Vec<Peer> =
        others.map(|node| node.address).filter(is_family).map(|address| peer_at(vip, address, None)).collect();
    let own = cluster.nodes.get(cluster.this).map(|node| node.address).filter(is_family);
    if peers.is_empty() && cluster.nodes.len() > 1 {
        let message = format!("no other node of [cluster] has an {} address", family(is_v4));
        item.error(&mut c.f, message, LIST);
    }
    (Peers::Unicast(peers), own)
}

fn of_list(
    c: &mut Context,
    item: &Item,
    list: &[TypedPeer],
    vip: &Vip,
    is_v4: bool,
    own: &[IpAddr],
) -> (Peers, Option<IpAddr>) {
    let of_family: Vec<&TypedPeer> = list.iter().filter(|peer| peer.address.is_ipv4() == is_v4).collect();
    let (mine, others): (Vec<&TypedPeer>, Vec<&TypedPeer>) =
        of_family.into_iter().partition(|peer| own.contains(&peer.address));
    if others.is_empty() && !list.is_empty() {
        let message = format!("has no {} address of another node", family(is_v4));
        item.error(&mut c.f, message, "Add it; each family of the addresses needs its own peers.");
    }
    let peers = others.into_iter().map(|peer| peer_at(vip, peer.address, peer.ttl.clone())).collect();
    (Peers::Unicast(peers), mine.first().map(|peer| peer.address))
}

/// A neighbour's TTL is 255, which nobody further away can send; behind routers it is not known.
fn peer_at(vip: &Vip, address: IpAddr, ttl: Option<RangeInclusive<u8>>) -> Peer {
    let networks = vip.interface.iter().flat_map(|interface| &interface.addresses);
    let is_neighbour = networks.into_iter().any(|network| network.contains(&address));
    Peer { address, ttl: ttl.unwrap_or(if is_neighbour { 255..=255 } else { 1..=255 }) }
}

/// The first written one that the interface has.
fn typed_source(
    c: &mut Context,
    vip: &Vip,
    is_v4: bool,
    is_multicast: bool,
    is_here: impl Fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    let Source(Some((item, list))) = &vip.source else { return None };
    let of_family: Vec<IpAddr> = list.iter().copied().filter(|address| address.is_ipv4() == is_v4).collect();
    let found = of_family.iter().copied().find(is_here);
    if let (None, Some(_), Some(interface)) = (found, of_family.first(), &vip.interface) {
        let typed: Vec<String> = of_family.iter().map(|address| address.to_string()).collect();
        let message = format!("{} has no address {}", interface.name, typed.join(" or "));
        item.error(&mut c.f, message, "Write this node's own address; a list may hold those of all nodes.");
    }
    if let Some(IpAddr::V6(address)) = found
        && is_multicast
        && !address.is_unicast_link_local()
    {
        let hint = "Write its fe80:: address, or remove the line.";
        item.error(&mut c.f, format!("{address} is not link-local, as adverts to the IPv6 group must be"), hint);
    }
    found
}

fn has(interface: Option<&Interface>, address: IpAddr) -> bool {
    interface.is_some_and(|interface| interface.addresses.iter().any(|own| own.addr() == address))
}

fn family(is_v4: bool) -> &'static str {
    if is_v4 { "IPv4" } else { "IPv6" }
}
