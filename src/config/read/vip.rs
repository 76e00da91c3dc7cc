//! `[[vip]]`: virtual addresses, each group one virtual router per address family.

use super::Context;
use super::cluster;
use crate::config::bundle::Interface;
use crate::config::file::{Item, Section};
use crate::config::findings::Place;
use crate::config::settings::VirtualRouter;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// An advert with its address list and an authentication trailer still fits one Ethernet frame.
const ADDRESSES_MAX: usize = 64;

/// RFC 9568 §5.2.7: 12 bits of centiseconds.
const ADVERT_INTERVAL_MAX: Duration = Duration::from_millis(40_950);

struct Vip<'a> {
    number: usize,
    vrid: Option<(Item<'a>, u8)>,
    interface: String,
    addresses: Vec<IpNet>,
    advert_interval_cs: u16,
    down_adverts: u8,
    preempt: Option<Duration>,
    priority: u8,
}

pub(super) fn read(c: &mut Context, sections: Vec<Section>, cluster: &Option<cluster::Read>) -> Vec<VirtualRouter> {
    let mut seen: Vec<IpAddr> = Vec::new();
    let mut routers: Vec<VirtualRouter> = Vec::new();
    for (index, section) in sections.into_iter().enumerate() {
        let vip = vip(c, section, index + 1, cluster, &mut seen);
        add_routers(c, &vip, &mut routers);
    }
    routers
}

fn vip<'a>(
    c: &mut Context,
    mut section: Section<'a>,
    number: usize,
    cluster: &Option<cluster::Read>,
    seen: &mut Vec<IpAddr>,
) -> Vip<'a> {
    let addresses = section.required(&mut c.f, "addresses", "Write addresses = [\"192.0.2.10/24\"].");
    let interface = section.optional("interface");
    let hint = "Write vrid = 51, and a different one for every pair on this LAN.";
    let vrid = section.required(&mut c.f, "vrid", hint).and_then(|item| vrid(c, item, hint));
    let advert_interval_cs = section.optional("advert_interval").and_then(|item| advert_interval(c, &item));
    let down_adverts = section.whole(&mut c.f, "down_adverts", 1..=255, 3);
    let preempt = section.optional("preempt").and_then(|item| preempt(c, &item));
    let priority = priority(c, &mut section, cluster);
    refuse_later(c, &mut section);
    let place = section.place.clone();
    section.finish(&mut c.f);

    let typed_interface = interface.as_ref().map(|item| known_interface(c, item));
    let list = addresses.map(|item| item.filled_list(&mut c.f, "Write addresses = [\"192.0.2.10/24\"]."));
    let list = list.unwrap_or_default();
    let name = match &typed_interface {
        Some(found) => found.clone(),
        None => found_interface(c, &place, &list),
    };
    let interface =
        name.as_ref().and_then(|name| c.host.interfaces().iter().find(|known| known.name == *name)).cloned();
    let nodes = cluster.as_ref().map(|read| read.cluster.nodes.as_slice()).unwrap_or_default();
    let addresses = list
        .iter()
        .filter_map(|item| {
            let network = address(c, item, interface.as_ref())?;
            if seen.contains(&network.addr()) {
                item.error(&mut c.f, format!("{} is listed twice", network.addr()), "");
            }
            if let Some(node) = nodes.iter().find(|node| node.address == network.addr()) {
                let message = format!("{} is the own address of node {}", network.addr(), node.name);
                item.error(&mut c.f, message, "A virtual address belongs to no node.");
            }
            seen.push(network.addr());
            Some(network)
        })
        .collect();
    Vip {
        number,
        vrid,
        interface: name.unwrap_or_default(),
        addresses,
        advert_interval_cs: advert_interval_cs.unwrap_or(10),
        down_adverts: u8::try_from(down_adverts).unwrap_or(3),
        preempt: preempt.flatten(),
        priority,
    }
}

/// One router per family that `vip` has addresses of.
fn add_routers(c: &mut Context, vip: &Vip, routers: &mut Vec<VirtualRouter>) {
    for (family, is_v4) in [("v4", true), ("v6", false)] {
        let addresses: Vec<IpNet> = vip.addresses.iter().filter(|a| a.addr().is_ipv4() == is_v4).copied().collect();
        let (false, Some((item, vrid))) = (addresses.is_empty(), &vip.vrid) else { continue };
        if addresses.len() > ADDRESSES_MAX {
            let message = format!("{} addresses are more than one advert carries ({ADDRESSES_MAX})", addresses.len());
            item.error(&mut c.f, message, "Make a second [[vip]] with another vrid.");
        }
        let same = |router: &&VirtualRouter| {
            let same_family = router.addresses.first().is_some_and(|first| first.addr().is_ipv4() == is_v4);
            router.vrid == *vrid && router.interface == vip.interface && !vip.interface.is_empty() && same_family
        };
        if let Some(other) = routers.iter().find(same) {
            let number = other.name.trim_start_matches("vip").split('-').next().unwrap_or("");
            let index = number.parse::<usize>().map_or(0, |number| number.saturating_sub(1));
            let message = format!("vip[{index}] has vrid {vrid} on {} too", vip.interface);
            item.error(&mut c.f, message, "Each [[vip]] on one interface needs its own.");
        }
        routers.push(VirtualRouter {
            name: format!("vip{}-{family}", vip.number),
            interface: vip.interface.clone(),
            vrid: *vrid,
            priority: vip.priority,
            advert_interval_cs: vip.advert_interval_cs,
            down_adverts: vip.down_adverts,
            preempt: vip.preempt,
            addresses,
            lease: lease(vip.advert_interval_cs, vip.down_adverts),
        });
    }
}

/// How long the kernel keeps an address that nobody refreshes: twice the down interval, whole seconds, 3 at least.
fn lease(advert_interval_cs: u16, down_adverts: u8) -> Duration {
    let down_ms = u64::from(advert_interval_cs) * 10 * (u64::from(down_adverts) + 1);
    Duration::from_secs((2 * down_ms).div_ceil(1000).max(3))
}

fn vrid<'a>(c: &mut Context, item: Item<'a>, hint: &str) -> Option<(Item<'a>, u8)> {
    let value = item.whole_hinted(&mut c.f, 1..=255, hint)?;
    Some((item, u8::try_from(value).ok()?))
}

/// Centiseconds.
fn advert_interval(c: &mut Context, item: &Item) -> Option<u16> {
    let interval = item.duration(&mut c.f, Duration::from_millis(1)..=ADVERT_INTERVAL_MAX)?;
    let ms = interval.as_millis();
    if ms % 10 != 0 {
        let near = (ms / 10).max(1) * 10;
        let message = format!("{ms}ms is not a multiple of 10ms, the unit that adverts carry");
        item.error(&mut c.f, message, format!("Write \"{near}ms\"."));
        return None;
    }
    u16::try_from(ms / 10).ok()
}

/// `false`, `true` (at once) or how long the lower Active must have been heard.
fn preempt(c: &mut Context, item: &Item) -> Option<Option<Duration>> {
    if item.is_text() {
        return item.duration(&mut c.f, Duration::ZERO..=Duration::from_secs(3600)).map(Some);
    }
    item.flag(&mut c.f).map(|on| on.then_some(Duration::ZERO))
}

/// Of this node: by its place in `nodes`, or as written where there is no [cluster].
fn priority(c: &mut Context, section: &mut Section, cluster: &Option<cluster::Read>) -> u8 {
    let item = section.optional("priority");
    let typed = item.as_ref().and_then(|item| item.whole(&mut c.f, 10..=254));
    match (cluster, item) {
        (Some(_), Some(item)) => {
            let hint = "Remove it, or write priority beside the node in cluster.nodes.";
            item.error(&mut c.f, "the order of cluster.nodes decides the priority", hint);
            cluster::PRIORITY_FIRST
        }
        (Some(read), None) => read.priority,
        (None, None) => {
            let hint = "Add [cluster] with both nodes, or write priority = 254 here and 253 on the other node.";
            c.f.warning(&section.place, "without [cluster] and priority both nodes have the same rank", hint);
            cluster::PRIORITY_FIRST
        }
        (None, Some(_)) => typed.and_then(|typed| u8::try_from(typed).ok()).unwrap_or(cluster::PRIORITY_FIRST),
    }
}

/// Keys whose other values come with the keepalived replacement.
fn refuse_later(c: &mut Context, section: &mut Section) {
    if let Some(item) = section.optional("version")
        && let Some(2) = item.whole(&mut c.f, 2..=3)
    {
        item.error(&mut c.f, "VRRP version 2: not in this version yet", "Write version = 3, or remove the line.");
    }
    if let Some(item) = section.optional("peers")
        && !(item.is_text() && item.text(&mut c.f) == Some("multicast"))
    {
        let hint = "Write peers = \"multicast\", or remove the line.";
        item.error(&mut c.f, "adverts by unicast: not in this version yet", hint);
    }
    if let Some(item) = section.optional("virtual_mac")
        && item.flag(&mut c.f) == Some(true)
    {
        let hint = "Remove the line: clients learn the new place by gratuitous ARP and neighbour advertisements.";
        item.error(&mut c.f, "a virtual MAC: not in this version yet", hint);
    }
}

/// The interface's name, if this host has it.
fn known_interface(c: &mut Context, item: &Item) -> Option<String> {
    let name = item.text(&mut c.f)?;
    if c.host.interfaces().iter().any(|known| known.name == name) {
        return Some(name.to_owned());
    }
    let names: Vec<&str> = c.host.interfaces().iter().map(|known| known.name.as_str()).collect();
    let hint = format!("There is {}.", names.join(", "));
    item.error(&mut c.f, format!("this host has no interface {name}"), hint);
    None
}

/// No interface was named: the one whose networks hold the first address.
fn found_interface(c: &mut Context, place: &Place, list: &[Item]) -> Option<String> {
    let first = list.first().filter(|item| item.is_text())?;
    let text = first.text(&mut c.f)?;
    let address: IpAddr = text.split('/').next()?.parse().ok()?;
    let holds = |interface: &&Interface| interface.addresses.iter().any(|own| own.contains(&address));
    let found: Vec<&str> = c.host.interfaces().iter().filter(holds).map(|known| known.name.as_str()).collect();
    let place = Place { key: format!("{}.interface", place.key), span: place.span.clone() };
    match found.as_slice() {
        [only] => return Some((*only).to_owned()),
        [] => {
            let message = format!("is missing, and no interface of this host is in a network with {address}");
            c.f.error(&place, message, "Write interface = \"eth0\".");
        }
        several => {
            let message = format!("is missing, and {address} could be on any of {}", several.join(", "));
            c.f.error(&place, message, "Write interface = \"eth0\".");
        }
    }
    None
}

fn address(c: &mut Context, item: &Item, interface: Option<&Interface>) -> Option<IpNet> {
    let text = item.text(&mut c.f)?;
    let network = parse_address(c, item, text, interface)?;
    if let Some(reason) = unusable(network) {
        item.error(&mut c.f, format!("{text} {reason}"), "Take an unused address of the network.");
        return None;
    }
    if let Some(interface) = interface {
        check_reachable(c, item, network, interface);
    }
    Some(network)
}

fn parse_address(c: &mut Context, item: &Item, text: &str, interface: Option<&Interface>) -> Option<IpNet> {
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(network);
    }
    let Ok(address) = text.parse::<IpAddr>() else {
        let hint = "Write address and prefix length, as \"192.0.2.10/24\" or \"2001:db8::10/64\".";
        item.error(&mut c.f, format!("{text:?} is no address"), hint);
        return None;
    };
    let own = interface.and_then(|interface| interface.addresses.iter().find(|own| own.contains(&address)));
    let hint = match own {
        Some(own) => format!("Write \"{address}/{}\", as {own} has.", own.prefix_len()),
        None => format!("Write \"{address}/{}\".", if address.is_ipv4() { 24 } else { 64 }),
    };
    item.error(&mut c.f, format!("{text} has no prefix length"), hint);
    None
}

/// Why nobody can own this address.
fn unusable(network: IpNet) -> Option<&'static str> {
    let address = network.addr();
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Some("cannot be a virtual address");
    }
    match network {
        IpNet::V4(network) if network.prefix_len() < 31 && network.addr() == network.network() => {
            Some("is the network itself")
        }
        IpNet::V4(network) if network.prefix_len() < 31 && network.addr() == network.broadcast() => {
            Some("is the network's broadcast address")
        }
        _ => None,
    }
}

/// A virtual address outside every network of its interface answers nobody there, unless somebody routes it here; who
/// does that on purpose writes the full prefix length. The address itself may already be installed: we may be Active.
fn check_reachable(c: &mut Context, item: &Item, network: IpNet, interface: &Interface) {
    let address = network.addr();
    let own: Vec<&IpNet> = interface
        .addresses
        .iter()
        .filter(|own| own.addr() != address && own.addr().is_ipv4() == address.is_ipv4())
        .collect();
    if network.prefix_len() == network.max_prefix_len() {
        return;
    }
    let Some(around) = own.iter().find(|own| own.contains(&address)) else {
        let name = &interface.name;
        let networks = own.iter().map(|own| own.to_string()).collect::<Vec<_>>().join(", ");
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let message = match own.is_empty() {
            true => format!("{name} has no {family} address, so no network that {address} is in"),
            false => format!("{address} is in no network of {name} ({networks})"),
        };
        let hint = format!(
            "Correct the address or the interface; if your routers send it here on purpose, write \"{address}/{}\".",
            network.max_prefix_len()
        );
        item.error(&mut c.f, message, hint);
        return;
    };
    if around.prefix_len() != network.prefix_len() {
        let message = format!("the prefix length differs from the network's on {} ({around})", interface.name);
        item.warning(&mut c.f, message, format!("Write \"{address}/{}\".", around.prefix_len()));
    }
}
