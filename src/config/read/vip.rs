//! `[[vip]]`: virtual addresses, each group one virtual router per address family.

mod address;
mod announce;
mod auth;
mod names;
mod peers;
mod priority;
mod timing;
mod virtual_mac;

use super::Context;
use super::cluster;
use crate::config::bundle::Interface;
use crate::config::file::{Item, Section};
use crate::config::settings::VirtualRouter;
use crate::config::settings::vip::{Checksum, Peers};
use ipnet::IpNet;
use names::Group;
use std::net::IpAddr;

/// An advert with its address list and an authentication trailer still fits one Ethernet frame.
const ADDRESSES_MAX: usize = 64;

/// More would take longer to announce than anybody waits.
const EXCLUDED_MAX: usize = 512;

/// The priority of a node whose own addresses these may be (RFC 9568 §6.1).
const OWNER: u8 = 255;

struct Vip<'a> {
    /// Of its table, counted from 0.
    index: usize,
    vrid: Option<(Item<'a>, u8)>,
    addresses: Vec<IpNet>,
    excluded: Vec<IpNet>,
    peers: peers::Typed<'a>,
    source: peers::Source<'a>,
    checksum: Option<Item<'a>>,
    sync_group: Group<'a>,
    mac: virtual_mac::Typed<'a>,
    interface: Option<Interface>,
    /// What the routers of both families are like.
    like: VirtualRouter,
}

/// What `[[vip]]`s must not have in common, and which one had it.
#[derive(Default)]
struct Seen {
    addresses: Vec<IpAddr>,
    names: Vec<String>,
    /// Of the `[[vip]]` that each router is from.
    indices: Vec<usize>,
}

pub(super) fn read(c: &mut Context, sections: Vec<Section>, cluster: &Option<cluster::Read>) -> Vec<VirtualRouter> {
    let mut seen = Seen::default();
    let mut routers: Vec<VirtualRouter> = Vec::new();
    let mut groups = Vec::new();
    for (index, section) in sections.into_iter().enumerate() {
        let vip = vip(c, section, index, cluster, &mut seen);
        add_routers(c, &vip, cluster, &mut seen, &mut routers);
        groups.push(vip.sync_group);
    }
    names::check_groups(c, &groups, &routers);
    routers
}

fn vip<'a>(
    c: &mut Context,
    mut section: Section<'a>,
    index: usize,
    cluster: &Option<cluster::Read>,
    seen: &mut Seen,
) -> Vip<'a> {
    let name = names::name(c, &mut section, index, &mut seen.names);
    let addresses = section.required(&mut c.f, "addresses", "Write addresses = [\"192.0.2.10/24\"].");
    let excluded = section.optional("excluded_addresses");
    let interface = section.optional("interface");
    let hint = "Write vrid = 51, and a different one for every pair on this LAN.";
    let vrid = section.required(&mut c.f, "vrid", hint).and_then(|item| vrid(c, item, hint));
    let version = timing::version(c, &mut section);
    let advert_interval_cs = timing::advert_interval(c, &mut section, version);
    let down_adverts = section.whole(&mut c.f, "down_adverts", 1..=255, 3);
    let down_adverts = u8::try_from(down_adverts).unwrap_or(3);
    let preempt = section.optional("preempt").and_then(|item| timing::preempt(c, &item)).flatten();
    let priority = priority::read(c, &mut section, cluster);
    let peers = peers::read(c, &mut section);
    let source = peers::source(c, &mut section);
    let checksum = section.optional("checksum");
    let auth = section.optional("auth");
    let authentication = auth::read(c, auth, version, advert_interval_cs);
    let sync_group = names::sync_group(c, &mut section);
    let mac = virtual_mac::read(c, &mut section);
    let announcing = section.optional("announce").and_then(|item| item.section(&mut c.f));
    let announcing = announce::read(c, announcing);
    let place = section.place.clone();
    section.finish(&mut c.f);

    let typed_interface = interface.as_ref().map(|item| address::known_interface(c, item));
    let list = addresses.map(|item| item.filled_list(&mut c.f, "Write addresses = [\"192.0.2.10/24\"]."));
    let list = list.unwrap_or_default();
    let interface_name = match &typed_interface {
        Some(found) => found.clone(),
        None => address::found_interface(c, &place, &list),
    };
    let known = |known: &&Interface| interface_name.as_ref() == Some(&known.name);
    let interface = c.host.interfaces().iter().find(known).cloned();
    let nodes = cluster.as_ref().map(|read| read.cluster.nodes.as_slice()).unwrap_or_default();
    let mut usable = |c: &mut Context, item: &Item| {
        let network = address::address(c, item, interface.as_ref(), priority == OWNER)?;
        let is_here = interface.as_ref().is_some_and(|interface| address::is_on(interface, network.addr()));
        if priority == OWNER && is_here && mac.value().is_some() {
            let hint = "Remove virtual_mac, or write a priority below 255 and an address that is no node's own.";
            item.error(
                &mut c.f,
                format!("{} cannot move to a virtual MAC: the system put it there", network.addr()),
                hint,
            );
        }
        if seen.addresses.contains(&network.addr()) {
            item.error(&mut c.f, format!("{} is listed twice", network.addr()), "");
        }
        if let Some(node) = nodes.iter().find(|node| node.address == network.addr()) {
            let message = format!("{} is the own address of node {}", network.addr(), node.name);
            let hint = "Nodes reach each other there, whoever is Active. Give the node another address in cluster.nodes, \
                        even if it owns this one (priority 255).";
            item.error(&mut c.f, message, hint);
        }
        seen.addresses.push(network.addr());
        Some(network)
    };
    let in_adverts = |c: &mut Context, item: &Item| {
        let network = usable(c, item)?;
        if version == 2 && network.addr().is_ipv6() {
            let hint = "Move it to a [[vip]] of its own with version = 3, or write version = 3 here.";
            item.error(&mut c.f, "VRRP version 2 is for IPv4 only", hint);
        }
        Some(network)
    };
    let addresses = collect(c, &list, in_adverts);
    let list = excluded.map(|item| item.list(&mut c.f)).unwrap_or_default();
    if let Some(item) = list.get(EXCLUDED_MAX) {
        item.error(&mut c.f, format!("there are more than {EXCLUDED_MAX} excluded addresses"), "");
    }
    let excluded = collect(c, &list, usable);
    let like = VirtualRouter {
        name,
        interface: interface_name.unwrap_or_default(),
        vrid: vrid.as_ref().map_or(1, |(_, vrid)| *vrid),
        version,
        priority,
        advert_interval_cs,
        down_adverts,
        preempt,
        addresses: Vec::new(),
        excluded: Vec::new(),
        peers: Peers::Multicast,
        source: None,
        checksum: Checksum::Auto,
        authentication,
        sync_group: None,
        virtual_mac: None,
        announcing,
        lease: timing::lease(advert_interval_cs, down_adverts),
    };
    Vip { index, vrid, addresses, excluded, peers, source, checksum, sync_group, mac, interface, like }
}

fn collect(c: &mut Context, list: &[Item], mut read: impl FnMut(&mut Context, &Item) -> Option<IpNet>) -> Vec<IpNet> {
    list.iter().filter_map(|item| read(c, item)).collect()
}

/// One router per family that `vip` has addresses of.
fn add_routers(
    c: &mut Context,
    vip: &Vip,
    cluster: &Option<cluster::Read>,
    seen: &mut Seen,
    routers: &mut Vec<VirtualRouter>,
) {
    let has = |is_v4: bool| vip.addresses.iter().any(|a| a.addr().is_ipv4() == is_v4);
    let has_both = has(true) && has(false);
    virtual_mac::check(c, &vip.mac, has_both);
    let checksum = checksum(c, vip.checksum.as_ref(), vip.like.version, has(true));
    for (family, is_v4) in [("v4", true), ("v6", false)] {
        let of_family = |list: &[IpNet]| list.iter().filter(|a| a.addr().is_ipv4() == is_v4).copied().collect();
        let addresses: Vec<IpNet> = of_family(&vip.addresses);
        let (false, Some((item, vrid))) = (addresses.is_empty(), &vip.vrid) else { continue };
        if addresses.len() > ADDRESSES_MAX {
            let message = format!("{} addresses are more than one advert carries ({ADDRESSES_MAX})", addresses.len());
            let hint = "Move the others to excluded_addresses, or make a second [[vip]] with another vrid.";
            item.error(&mut c.f, message, hint);
        }
        let interface = vip.like.interface.as_str();
        let same = |router: &&VirtualRouter| {
            let same_family = router.addresses.first().is_some_and(|first| first.addr().is_ipv4() == is_v4);
            router.vrid == *vrid && router.interface == interface && !interface.is_empty() && same_family
        };
        if let Some(other) = routers.iter().position(|router| same(&router)) {
            let index = seen.indices.get(other).copied().unwrap_or_default();
            let message = format!("vip[{index}] has vrid {vrid} on {interface} too");
            item.error(&mut c.f, message, "Each [[vip]] on one interface needs its own.");
        }
        let (peers, source) = peers::of_family(c, vip, is_v4, cluster, &addresses);
        // Those of a family without adverts go with the other family's.
        let excluded = if has_both { of_family(&vip.excluded) } else { vip.excluded.clone() };
        seen.indices.push(vip.index);
        routers.push(VirtualRouter {
            name: format!("{}-{family}", vip.like.name),
            addresses,
            excluded,
            peers,
            source,
            checksum,
            sync_group: vip.sync_group.of(&vip.like.name, has_both),
            virtual_mac: vip.mac.value(),
            ..vip.like.clone()
        });
    }
}

fn vrid<'a>(c: &mut Context, item: Item<'a>, hint: &str) -> Option<(Item<'a>, u8)> {
    let value = item.whole_hinted(&mut c.f, 1..=255, hint)?;
    Some((item, u8::try_from(value).ok()?))
}

fn checksum(c: &mut Context, item: Option<&Item>, version: u8, has_v4: bool) -> Checksum {
    const CHOICES: [(&str, Checksum); 3] =
        [("auto", Checksum::Auto), ("rfc5798", Checksum::Pseudo), ("rfc9568", Checksum::Message)];
    let Some(item) = item else { return Checksum::Auto };
    if version == 2 || !has_v4 {
        let message = "has no effect: only version 3 over IPv4 has two forms of checksum";
        item.warning(&mut c.f, message, "Remove the line.");
    }
    item.choice(&mut c.f, &CHOICES).unwrap_or(Checksum::Auto)
}
