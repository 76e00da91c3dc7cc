//! `[cluster]`: the nodes, which of them this is, and their secret.

use super::{Context, files};
use crate::config::bundle::Interface;
use crate::config::file::{Item, Section};
use crate::config::findings::Place;
use crate::config::names;
use crate::config::settings::{Cluster, Node, Secret};
use std::net::IpAddr;

/// The Active of the first node advertises this; 255 is for owners of the addresses.
pub(super) const PRIORITY_FIRST: u8 = 254;

/// Beside the ports of the ExApp gateway, 8780 and 8782.
const LINK_PORT: u16 = 8783;

/// More nodes than this share an address badly: priorities would reach the values that mean "degraded".
const NODES_MAX: usize = 16;

pub(super) struct Read {
    pub(super) cluster: Cluster,
    /// Of each node, in their order.
    pub(super) priorities: Vec<u8>,
}

struct TypedNode<'a> {
    item: Item<'a>,
    node: Node,
    priority: u8,
}

pub(super) fn read(c: &mut Context, section: Option<Section>) -> Option<Read> {
    let Some(mut section) = section else {
        if let Some(name) = c.node.clone() {
            let place = Place { key: "cluster".to_owned(), span: 0..0 };
            c.f.error(&place, "is missing", format!("--node {name} needs [cluster] with nodes."));
        }
        return None;
    };
    let secret = files::secret(c, &mut section);
    let hint = "Write nodes = [{ name = \"edge-a\", address = \"192.0.2.11\" }, ...], the preferred node first.";
    let list = section.required(&mut c.f, "nodes", hint);
    let nodes = list.as_ref().map(|list| nodes(c, list)).unwrap_or_default();
    let this = list.and_then(|list| this_node(c, &list, &nodes));
    let link_port = section.whole(&mut c.f, "link_port", 1..=65_535, u64::from(LINK_PORT));
    let link_port = u16::try_from(link_port).unwrap_or(LINK_PORT);
    section.finish(&mut c.f);
    let priorities = nodes.iter().map(|typed| typed.priority).collect();
    let nodes = nodes.into_iter().map(|typed| typed.node).collect();
    let secret = secret.unwrap_or(Secret(Vec::new().into()));
    Some(Read { cluster: Cluster { nodes, this: this.unwrap_or(0), secret, link_port }, priorities })
}

fn nodes<'a>(c: &mut Context, list: &Item<'a>) -> Vec<TypedNode<'a>> {
    let mut nodes: Vec<TypedNode> = Vec::new();
    for (index, item) in list.filled_list(&mut c.f, "").into_iter().enumerate() {
        let Some(mut section) = item.section(&mut c.f) else { continue };
        let name = section.required(&mut c.f, "name", "Write name = \"edge-a\".");
        let address = section.required(&mut c.f, "address", "Write address = \"192.0.2.11\", the node's own address.");
        let default = PRIORITY_FIRST.saturating_sub(u8::try_from(index).unwrap_or(u8::MAX));
        let priority_item = section.optional("priority");
        let priority = priority_item.as_ref().and_then(|item| item.whole(&mut c.f, 10..=254));
        let priority = priority.and_then(|priority| u8::try_from(priority).ok()).unwrap_or(default);
        section.finish(&mut c.f);
        let name = name.and_then(|item| node_name(c, &item, &nodes));
        let address = address.and_then(|item| node_address(c, &item, &nodes));
        if let Some(same) = nodes.iter().find(|other| other.priority == priority) {
            let message = format!("{} has priority {priority} too", same.node.name);
            priority_item.as_ref().unwrap_or(&item).error(&mut c.f, message, "Give each node its own.");
        }
        if let (Some(name), Some(address)) = (name, address) {
            nodes.push(TypedNode { item, node: Node { name, address }, priority });
        }
    }
    if nodes.len() > NODES_MAX {
        list.error(&mut c.f, format!("there are more than {NODES_MAX} nodes"), "");
    }
    if let [only] = nodes.as_slice() {
        only.item.warning(&mut c.f, "one node is no pair", "Name the other node too.");
    }
    nodes
}

fn node_name(c: &mut Context, item: &Item, before: &[TypedNode]) -> Option<String> {
    let name = item.text(&mut c.f)?;
    if !names::is_given_name(name) {
        let hint = "Use 1 to 63 letters, digits, hyphens, dots and underscores, a letter or digit first.";
        item.error(&mut c.f, format!("{name:?} is no node name"), hint);
        return None;
    }
    if before.iter().any(|other| other.node.name == name) {
        item.error(&mut c.f, format!("two nodes are named {name}"), "");
    }
    Some(name.to_owned())
}

fn node_address(c: &mut Context, item: &Item, before: &[TypedNode]) -> Option<IpAddr> {
    let text = item.text(&mut c.f)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        let bare = text.split('/').next().and_then(|bare| bare.parse::<IpAddr>().ok());
        let hint = match bare {
            Some(bare) => format!("Write \"{bare}\", without the prefix length."),
            None => "Write the node's own address, as \"192.0.2.11\".".to_owned(),
        };
        item.error(&mut c.f, format!("{text:?} is no IP address"), hint);
        return None;
    };
    if address.is_unspecified() || address.is_multicast() {
        item.error(&mut c.f, format!("{address} is no address of a node"), "");
    }
    if let Some(other) = before.iter().find(|other| other.node.address == address) {
        let message = format!("{} has the address {address} too", other.node.name);
        item.error(&mut c.f, message, "Each node has an address of its own; the shared one belongs into [[vip]].");
    }
    Some(address)
}

/// Index of the node that this host is.
fn this_node(c: &mut Context, list: &Item, nodes: &[TypedNode]) -> Option<usize> {
    if nodes.is_empty() {
        return None;
    }
    let names = |nodes: &[&TypedNode]| nodes.iter().map(|n| n.node.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = c.node.clone() {
        let index = nodes.iter().position(|typed| typed.node.name == name);
        match index.and_then(|index| nodes.get(index)) {
            None => {
                let all: Vec<&TypedNode> = nodes.iter().collect();
                list.error(
                    &mut c.f,
                    format!("has no node {name:?}, as --node says"),
                    format!("There is {}.", names(&all)),
                );
            }
            Some(typed) if !is_here(c.host.interfaces(), typed.node.address) => {
                let message = format!("{} is on no interface of this host", typed.node.address);
                typed.item.warning(&mut c.f, message, "");
            }
            Some(_) => {}
        }
        return index;
    }
    let here: Vec<&TypedNode> = nodes.iter().filter(|typed| is_here(c.host.interfaces(), typed.node.address)).collect();
    match here.as_slice() {
        [this] => nodes.iter().position(|typed| typed.node.name == this.node.name),
        [] => {
            let message = format!("no node has an address of this host ({})", own_addresses(c.host.interfaces()));
            let example = nodes.first().map_or("NAME", |typed| &typed.node.name);
            list.error(&mut c.f, message, format!("Correct an address, or say which node this is: --node {example}."));
            None
        }
        // Two nodes with one address are reported as that.
        [first, rest @ ..] if rest.iter().any(|other| other.node.address == first.node.address) => None,
        several => {
            let message = format!("this host has the addresses of {}", names(several));
            list.error(&mut c.f, message, "Say which node this is with --node NAME.");
            None
        }
    }
}

fn is_here(interfaces: &[Interface], address: IpAddr) -> bool {
    interfaces.iter().flat_map(|interface| &interface.addresses).any(|network| network.addr() == address)
}

/// The addresses by which a host could be meant, for a message.
fn own_addresses(interfaces: &[Interface]) -> String {
    let is_link_local = |address: IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let addresses = interfaces.iter().flat_map(|interface| &interface.addresses).map(|network| network.addr());
    let own: Vec<String> =
        addresses.filter(|a| !a.is_loopback() && !is_link_local(*a)).take(8).map(|a| a.to_string()).collect();
    if own.is_empty() { "it has none".to_owned() } else { own.join(", ") }
}
